"""How a new config is applied to a running node, as Talos' documentation has it: at once, on trial, or by a reboot."""

from __future__ import annotations

from enum import StrEnum

from luksctl.config.changes import Changes
from luksctl.errors import Refused
from luksctl.value import frozen


class Mode(StrEnum):
    """What the operator asks for; AUTO is NO_REBOOT or REBOOT, by what changes."""

    AUTO = "auto"
    NO_REBOOT = "no-reboot"
    REBOOT = "reboot"
    STAGED = "staged"
    TRY = "try"


@frozen
class How:
    """`strict` decides about reboots by Talos' rule alone; `timeout_s` is for a trial."""

    mode: Mode = Mode.AUTO
    strict: bool = False
    dry_run: bool = False
    timeout_s: float = 60.0


def decide(how: How, changes: Changes) -> tuple[Mode, tuple[str, ...]]:
    """Return what is done, never AUTO, and the fields that need a reboot; Refused where the mode does not allow one."""
    rebooting = changes.rebooting(strict=how.strict)
    if how.mode is Mode.AUTO:
        return (Mode.REBOOT if rebooting else Mode.NO_REBOOT), rebooting
    if how.mode in (Mode.NO_REBOOT, Mode.TRY) and rebooting:
        cause = f"{', '.join(rebooting)} can only be changed by a reboot; nothing was changed"
        raise Refused(cause, hint="--mode=reboot, or --mode=staged for a reboot of your own")
    return how.mode, rebooting
