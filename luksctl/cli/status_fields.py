"""The status as plain values for JSON. No secret and no node UUID is among them."""

from __future__ import annotations

from luksctl.hints import Final
from luksctl.model.header import HeaderCopies, HeaderCopy
from luksctl.model.intent import DecryptIntent, FormatIntent, InPlaceIntent, ReencryptIntent, ResetIntent
from luksctl.model.meta import MetaFacts
from luksctl.model.observed import FilesystemFound, Luks2
from luksctl.node.reencrypt_progress import ReencryptProgress
from luksctl.node.report import Report
from luksctl.node.status import NodeStatus
from luksctl.node.volume_status import SlotStatus, VolumeStatus

_KINDS: Final = {
    FormatIntent: "format",
    ResetIntent: "reset",
    ReencryptIntent: "reencrypt",
    InPlaceIntent: "inPlace",
    DecryptIntent: "decrypt",
}


def status_fields(status: NodeStatus) -> dict[str, object]:
    """Return the whole status."""
    return {
        "condition": status.condition.value,
        "exitCode": status.exit_code,
        "configSource": status.config_source,
        "notes": list(status.notes),
        "findings": list(status.findings),
        "meta": _meta(status.meta),
        "volumes": [_volume(volume) for volume in status.volumes],
        "next": list(status.next_commands),
    }


def _meta(meta: MetaFacts) -> dict[str, object]:
    return {
        "state": meta.state.value,
        "problem": meta.problem,
        "stateKeys": None
        if meta.state_encryption is None
        else [{"slot": key.slot, "kind": key.kind.value} for key in meta.state_encryption.keys],
        "tag9Problem": meta.tag9_problem,
        "uuidOverride": meta.uuid_override is not None,
        "partitions": dict(meta.record.partitions),
        "expectedEncrypted": list(meta.record.encrypted),
        "intents": [
            {
                "volume": intent.volume,
                "partition": intent.partition,
                "attempt": intent.attempt,
                "kind": _KINDS[type(intent)],
                "phase": intent.phase.value if isinstance(intent, FormatIntent | InPlaceIntent) else None,
                "lastError": intent.last_error or None,
            }
            for intent in meta.record.intents
        ],
    }


def _volume(volume: VolumeStatus) -> dict[str, object]:
    device, observed = volume.device, volume.observed
    return {
        "volume": volume.volume,
        "state": volume.state,
        "observed": None if observed is None else type(observed).__name__,
        "device": None if device is None else device.path,
        "sizeBytes": None if device is None else device.size_bytes,
        "partuuid": None if device is None else device.partuuid or None,
        "mapping": None if volume.mapping is None else volume.mapping.path,
        "filesystem": observed.signature.type if isinstance(observed, FilesystemFound) else None,
        "mountPoint": volume.mount_point,
        "mounted": volume.mounted,
        "headerUUID": observed.header.uuid if isinstance(observed, Luks2) else None,
        "headerCopies": None if volume.copies is None else _copies(volume.copies),
        "adopted": volume.adopted,
        "slots": [_slot(slot) for slot in volume.slots],
        "talos": None
        if volume.talos is None
        else {
            "readable": not volume.talos.objections,
            "objections": list(volume.talos.objections),
            "removesSlots": list(volume.talos.removes),
        },
        "reencryption": None if volume.reencryption is None else _reencryption(volume.reencryption),
        "findings": list(volume.findings),
        "warnings": list(volume.warnings),
        "lastAttempt": None if volume.report is None else _report(volume.report),
        "hint": volume.hint,
        "exitCode": volume.code,
    }


def _reencryption(progress: ReencryptProgress) -> dict[str, object]:
    return {
        "kind": progress.kind.value,
        "stage": progress.stage.value,
        "doneBytes": progress.done_bytes,
        "totalBytes": progress.total_bytes,
        "running": progress.running,
        "bytesPerSecond": progress.bytes_per_s,
        "remainingSeconds": progress.remaining_s,
        "stoppedBy": None if progress.stop is None else progress.stop.why,
    }


def _copies(copies: HeaderCopies) -> dict[str, object]:
    return {"state": copies.state.value, "first": _copy(copies.first), "second": _copy(copies.second)}


def _copy(copy: HeaderCopy | None) -> dict[str, object] | None:
    if copy is None:
        return None
    seqid = None if copy.header is None else copy.header.seqid
    return {"offsetBytes": copy.offset_bytes, "valid": copy.valid, "sequenceId": seqid, "problem": copy.problem}


def _slot(slot: SlotStatus) -> dict[str, object]:
    keyslot = slot.keyslot
    return {
        "slot": keyslot.number,
        "kind": slot.kind,
        "openedIt": slot.opened_it,
        "token": slot.token,
        "changedAt": slot.changed_at,
        "newKeyAtNextBoot": slot.due,
        "kdf": {
            "type": keyslot.kdf,
            "time": keyslot.time,
            "memoryKiB": keyslot.memory_kib,
            "threads": keyslot.threads,
            "iterations": keyslot.iterations,
        },
    }


def _report(report: Report) -> dict[str, object]:
    return {
        "state": report.state.value,
        "openedBy": report.opened_by,
        "slot": report.slot,
        "configSource": report.config_source,
        "problem": report.problem,
        "hint": report.hint,
        "notes": list(report.notes),
    }
