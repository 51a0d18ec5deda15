"""Ask for a recovery key: at a terminal each group is checked as it is typed, so a mistake costs five characters."""

from __future__ import annotations

import os

from luksctl.cli.secret_input import TERMINAL, read_line, read_passphrase, silent_terminal
from luksctl.errors import RecoveryKeyMistyped
from luksctl.hints import Final
from luksctl.providers.recovery_form import GROUPS
from luksctl.providers.recovery_key import read_recovery_key
from luksctl.providers.typed_key import TypedKey
from luksctl.secret import Secret

_WHAT: Final = "the recovery key"


def ask_recovery_key(descriptor: int | None, *, terminal: str = TERMINAL) -> Secret:
    """Return a recovery key in its canonical text, from `descriptor` or as it is typed, at once or group by group.

    At the terminal it asks until all is right; the end of input (Ctrl-D) is a UsageError. From a descriptor,
    RecoveryKeyMistyped says what is wrong.
    """
    if descriptor is not None:
        with read_passphrase(_WHAT, descriptor) as typed:
            return read_recovery_key(typed)
    with silent_terminal(_WHAT, terminal) as screen, TypedKey() as growing:
        while True:
            try:
                if not growing.missing:
                    return growing.finish()
                with read_line(screen, _prompt(growing.missing), _WHAT) as line:
                    growing.take(line)
            except RecoveryKeyMistyped as error:
                os.write(screen, f"{error.cause}\n".encode())


def _prompt(missing: tuple[int, ...]) -> str:
    if len(missing) == GROUPS:
        return "Recovery key, all of it or group by group: "
    return f"Group {missing[0]} of {GROUPS}: "
