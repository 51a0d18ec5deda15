"""What the last attempt at a volume came to, kept in /run/luksctl for status and for people in an emergency shell."""

from __future__ import annotations

import json
import os
from enum import StrEnum

from luksctl.errors import (
    AmbiguousDevice,
    ConfigError,
    DeviceMissing,
    Locked,
    LuksctlError,
    Maintenance,
    ProviderUnavailable,
    Refused,
)
from luksctl.node.files import read_file, replace_file
from luksctl.node.node import Node
from luksctl.reconcile.keys import needs_network
from luksctl.value import as_dict, frozen, replace


class VolumeState(StrEnum):
    """In what state a volume is, in one word."""

    OPEN = "open"
    PLAIN = "plain"
    MAINTENANCE = "maintenance"
    LOCKED = "locked"
    MISSING = "missing"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    CONFIG_ERROR = "config error"
    FAILED = "failed"


_STATES: tuple[tuple[type[LuksctlError], VolumeState], ...] = (
    (Maintenance, VolumeState.MAINTENANCE),
    (Locked, VolumeState.LOCKED),
    (DeviceMissing, VolumeState.MISSING),
    (AmbiguousDevice, VolumeState.REFUSED),
    (Refused, VolumeState.REFUSED),
    (ProviderUnavailable, VolumeState.UNAVAILABLE),
    (ConfigError, VolumeState.CONFIG_ERROR),
)


@frozen
class Report:
    """One volume after an attempt. `opened_by` is "slot N (kind)"; `notes` are findings that did not stop it.

    `in_sync` tells whether the keyslots were those of the config then; None where nobody looked. `network`: what is
    left to do waits for the stage of the boot that has a network.
    """

    volume: str
    state: VolumeState
    device: str | None = None
    opened_by: str | None = None
    slot: int | None = None
    config_source: str | None = None
    problem: str | None = None
    hint: str | None = None
    exit_code: int = 0
    notes: tuple[str, ...] = ()
    in_sync: bool | None = None
    network: bool = False


def failure_report(volume: str, error: LuksctlError) -> Report:
    """Return the report of an attempt that ended with `error`; what was noted on it (other keys, META) included."""
    notes = tuple(getattr(error, "__notes__", ()))
    state = next((state for kind, state in _STATES if isinstance(error, kind)), VolumeState.FAILED)
    report = Report(volume, state, problem=str(error), hint=error.hint, exit_code=error.exit_code, notes=notes)
    return replace(report, network=needs_network(error))


def write_report(node: Node, report: Report) -> None:
    """Keep the report, which holds no secrets.

    It only tells, so one that cannot be written is told instead, and neither hides an error nor fails an opening.
    """
    path = node.paths.report(report.volume)
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        replace_file(path, json.dumps(as_dict(report), indent=2).encode() + b"\n", mode=0o644)
    except OSError as error:
        node.tell(f"{report.volume}: {path} cannot be written: {error.strerror}")


def note_in_sync(node: Node, volume: str, *, in_sync: bool) -> None:
    """Keep whether the keyslots are those of the config, beside what the last attempt reported; nothing without one."""
    report = read_report(node, volume)
    if report is not None and report.in_sync != in_sync:
        write_report(node, replace(report, in_sync=in_sync))


def read_report(node: Node, volume: str) -> Report | None:
    """Return the last report of `volume` in this boot, or None, also for one that another luksctl wrote differently."""
    try:
        text = read_file(node.paths.report(volume))
        if text is None:
            return None
        fields = json.loads(text)
        return Report(**{**fields, "state": VolumeState(fields["state"]), "notes": tuple(fields["notes"])})
    except (OSError, ValueError, TypeError, LookupError):
        return None
