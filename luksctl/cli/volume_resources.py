"""Volumes in the words of Talos' resource VolumeStatus, without secrets: fields that have no value are left out."""

from __future__ import annotations

from luksctl.hints import Any, Final
from luksctl.model.config import ConfiguredKey, TpmKey, VolumeEncryption
from luksctl.model.observed import Ambiguous, Damaged, FilesystemFound, Foreign, Luks2, Missing, Observed
from luksctl.node.preview import Preview
from luksctl.node.volume_status import WELL, VolumeStatus

TYPE: Final = "partition"
_DEFAULT_PCRS: Final = (7,)
_SI: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def volume_spec(seen: Preview, volume: VolumeStatus) -> dict[str, Any]:
    """Return the fields of one volume."""
    encryption = None if seen.desired is None else seen.desired.encryption
    device = volume.device
    spec: dict[str, Any] = {
        "phase": phase_of(volume),
        "type": TYPE,
        "location": None if device is None else device.path,
        "mountLocation": None if volume.mapping is None else volume.mapping.path,
        "size": None if device is None else device.size_bytes,
        "encryptionProvider": _provider(volume.observed, encryption),
        "errorMessage": _error(volume),
        **_encryption_fields(volume, encryption),
    }
    return {name: value for name, value in spec.items() if value not in (None, [], {})}


def phase_of(volume: VolumeStatus) -> str:
    """Return one of Talos' words for how far a volume has come."""
    match volume.observed:
        case None:
            return "waiting"
        case Missing():
            return "missing"
        case Ambiguous() | Foreign() | Damaged():
            return "failed"
        case Luks2(mapping=None):
            failed = volume.report is not None and volume.report.exit_code != WELL
            return "failed" if failed else "provisioned"
        case Luks2() | FilesystemFound():
            return "ready" if volume.mounted else "prepared"
        case _:
            return "located"


def si_size(size_bytes: int) -> str:
    """Return a size with an SI unit, as Talos shows it."""
    value, unit = float(size_bytes), 0
    while value >= 1000 and unit < len(_SI) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_SI[unit]}" if unit and value < 10 else f"{value:.0f} {_SI[unit]}"


def _provider(observed: Observed | None, encryption: VolumeEncryption | None) -> str:
    return "luks2" if isinstance(observed, Luks2) or encryption is not None else "none"


def _error(volume: VolumeStatus) -> str | None:
    if volume.code == WELL:
        return None
    problem = None if volume.report is None else volume.report.problem
    return "; ".join(volume.findings) or problem


def _encryption_fields(volume: VolumeStatus, encryption: VolumeEncryption | None) -> dict[str, Any]:
    opened = next((slot for slot in volume.slots if slot.opened_it), None)
    if encryption is None:
        return {"encryptionSlot": None if opened is None else opened.keyslot.number}
    number = None if opened is None else opened.keyslot.number
    key = next((key for key in encryption.keys if key.slot == number), None)
    return {
        "configuredEncryptionKeys": sorted({key.kind.value for key in encryption.keys}),
        "encryptionSlot": number,
        "encryptionLockedToState": None if key is None else bool(key.lock_to_state),
        "encryptionFailedSyncs": _failed_syncs(volume),
        "encryptionAllowDiscards": encryption.allow_discards,
        "tpmEncryptionOptions": _tpm_options(key),
    }


def _failed_syncs(volume: VolumeStatus) -> list[str]:
    """Return what the last attempt could not bring in sync."""
    report = volume.report
    return list(report.notes) if report is not None and report.in_sync is False else []


def _tpm_options(key: ConfiguredKey | None) -> dict[str, Any] | None:
    if key is None or not isinstance(key.source, TpmKey):
        return None
    return {"pcrs": list(_DEFAULT_PCRS if key.source.pcrs is None else key.source.pcrs)}
