"""`luksctl`, and `python -m luksctl`: where the command line gets the KMS, which is a room beside it.

Above all rooms, so that neither has to know the other; the KMS is loaded only when one of its words was typed.
"""

from __future__ import annotations

from luksctl.cli.main import run as run_command_line
from luksctl.cli.main import start
from luksctl.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from luksctl.model.kms import KmsRoom


def kms_room() -> KmsRoom:
    """Return the KMS on the files of this machine."""
    from luksctl.kms.room import Kms  # noqa: PLC0415  # see the top

    return Kms()


def run() -> int:
    """Run the command line of this process and return its exit code."""
    return run_command_line(kms_room)


if __name__ == "__main__":
    start(kms_room)
