"""What a config would change, for people: how its text differs, without secrets, and the steps of the keyslots."""

from __future__ import annotations

import difflib

from luksctl.cli.console import Console
from luksctl.cli.steps import described, slot_of
from luksctl.config.redaction import redact
from luksctl.errors import ConfigError
from luksctl.hints import Final
from luksctl.model.destroys import Destroys
from luksctl.node.modes import Mode
from luksctl.node.running_config import Taken

_MODES: Final = {
    Mode.NO_REBOOT: "it would be applied without a reboot",
    Mode.REBOOT: "it would be stored for the next boot, and the node rebooted",
    Mode.STAGED: "it would be stored for the next boot",
    Mode.TRY: "it would be tried, and taken back unless confirmed",
}
_COLUMNS: Final = ("volume", "step", "slot", "destroys", "what")


def diff_of(before: bytes, after: bytes) -> list[str]:
    """Return a unified diff of both texts, in lines, with REDACTED in place of passphrases; none where they are equal.

    A passphrase that changed shows as one line that stays the same, so it does not show; the steps tell.
    """
    old, new = (_lines(text) for text in (before, after))
    return list(difflib.unified_diff(old, new, "the config in STATE", "the new config", lineterm=""))


def _lines(text: bytes) -> list[str]:
    try:
        return redact(text).decode("utf-8", "replace").splitlines()
    except ConfigError:
        # Nobody can say where its passphrases are.
        return ["(a text that cannot be read)"]


def show_dry_run(taken: Taken, diff: list[str], console: Console) -> None:
    """Say in which mode it would be taken, what differs, and what would be done to each keyslot."""
    console.say(f"dry run: {_MODES[taken.mode]}" + (f" ({', '.join(taken.rebooting)})" if taken.rebooting else ""))
    for line in diff:
        console.say(line)
    rows = []
    for planned in taken.planned:
        for step in planned.steps:
            slot = slot_of(step)
            destroys = "" if step.destroys is Destroys.NOTHING else step.destroys.upper()
            rows.append(
                (planned.volume, type(step).__name__, "" if slot is None else str(slot), destroys, described(step))
            )
    if rows:
        console.table(_COLUMNS, rows)
    else:
        console.say("no keyslot would change")
    for planned in taken.planned:
        for problem in planned.problems:
            console.note(f"luksctl: {planned.volume}: {problem}")
