"""What comes back from other nodes, and which exit code counts where there are several."""

from __future__ import annotations

import json
from collections.abc import Iterable

from luksctl.cli.console import Console
from luksctl.devices.ssh import Ending
from luksctl.errors import LuksctlError, Unreachable
from luksctl.hints import Any, Final
from luksctl.value import field, frozen

# Of several nodes the code that comes first here counts, and what is not here before all; docs/nodes.md has the list.
WORST_FIRST: Final = (1, 14, 4, 10, 9, 3, 13, 11, 6, 2, 64, 12, 8, 5, 7, 0)
_NOT_REACHED: Final = 255
# What a luksctl that is stopped ends with, beside the codes of its errors.
_STOPPED: Final = (130, 141)


@frozen
class Answer:
    """How the verb ended on one node, and what it printed; or why nothing came."""

    node: str
    code: int
    out: bytes = field(repr=False, default=b"")
    error: LuksctlError | None = None

    def fields(self) -> dict[str, Any]:
        """Return it as plain values for JSON output."""
        said = parsed(self.out) if self.error is None else self.error.fields()
        return {"node": self.node, "exitCode": self.code, "answer": said}


def worst(codes: Iterable[int]) -> int:
    """Return the code that counts where several nodes ended with these."""
    return min(codes, key=lambda code: WORST_FIRST.index(code) if code in WORST_FIRST else -1)


def expect_answer(node: str, ending: Ending, *, json_wanted: bool = False) -> None:
    """Raise Unreachable unless it was luksctl that ended so: a verb that failed there is an answer."""
    hint = f"ssh {node} luksctl --version"
    if ending.code == _NOT_REACHED:
        raise Unreachable(f"{node} is not reached: {ending.last_note or 'ssh says nothing'}", hint=hint)
    if ending.code not in (*WORST_FIRST, *_STOPPED) or (json_wanted and parsed(ending.out) is None):
        raise Unreachable(f"{node} is reached, but its luksctl did not answer (exit code {ending.code})", hint=hint)


def parsed(out: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `out` is, or None."""
    try:
        found = json.loads(out)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def show_error(error: LuksctlError, console: Console) -> None:
    """Say why there is no answer."""
    console.note(f"luksctl: {error}")
    if error.hint is not None:
        console.note(f"hint: {error.hint}")
