"""Find out what is on a volume's device. Reads only; every answer is one of the eleven in model/observed.py."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.errors import DeviceError, DeviceMissing
from luksctl.model.config import VolumeSettings
from luksctl.model.header import Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import DecryptIntent, FormatIntent, InPlaceIntent, Intent, ReencryptIntent, ResetIntent
from luksctl.model.meta import MetaFacts
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    Decrypting,
    Encrypting,
    Erasing,
    FilesystemFound,
    Foreign,
    Luks2,
    Mapping,
    Missing,
    Observed,
    Unfinished,
)
from luksctl.model.ports import Disks
from luksctl.model.probe import Device, Signature
from luksctl.value import replace

_LUKS_SIGNATURE = "crypto_LUKS"


def observe(volume: str, settings: VolumeSettings, mapped_name: str, meta: MetaFacts, disks: Disks) -> Observed:
    """Find the device of `volume` and say what is on it; does not wait (see `Disks.find` for waiting)."""
    found = disks.find(volume, settings, timeout_s=0)
    if isinstance(found, Missing | Ambiguous):
        return found
    recorded = meta.record.partition(volume)
    if recorded is not None and recorded != found.identity:
        reason = f"META records partition {recorded}, but {found.path} is {found.identity}"
        return Ambiguous((found.path,), reason)
    return _announced(found, meta.record.intent(volume), mapped_name, disks)


def _announced(found: Device, intent: Intent | None, mapped_name: str, disks: Disks) -> Observed:
    if isinstance(intent, ResetIntent):
        if intent.partition != found.identity:
            return Damaged(found, f"META announces a reset of partition {intent.partition}, which is not this one")
        return erasing(found, intent, mapped_name, disks)
    if isinstance(intent, InPlaceIntent | DecryptIntent):
        return _in_place(found, intent, disks)
    if isinstance(intent, ReencryptIntent):
        return _reencrypting(found, intent, disks.mapping(mapped_name), disks)
    return _found(found, intent, disks.mapping(mapped_name), disks)


def _found(found: Device, intent: FormatIntent | None, mapping: Mapping | None, disks: Disks) -> Observed:
    if mapping is not None and mapping.backing != found.path:
        return Damaged(found, f"{mapping.path} is open on another device, {mapping.backing}")
    if mapping is None:
        holder = disks.in_use(found)
        # An announced format would destroy what is mounted, so only without one may a device be in use.
        if holder is not None and (intent is not None or not _is_plain_mount(found, disks)):
            return Damaged(found, f"the device is in use by {holder}")
    if intent is not None and intent.partition != found.identity:
        return Damaged(found, f"META announces a format of partition {intent.partition}, which is not this one")
    return classify(found, disks.header_copies(found), intent, mapping, _Probe(found, disks))


def _in_place(found: Device, intent: InPlaceIntent | DecryptIntent, disks: Disks) -> Encrypting | Decrypting | Damaged:
    if intent.partition != found.identity:
        return Damaged(found, f"META announces work in place on partition {intent.partition}, which is not this one")
    copies, holder = disks.header_copies(found), disks.in_use(found)
    if isinstance(intent, InPlaceIntent):
        return Encrypting(found, intent, copies, holder)
    detached = replace(found, header=intent.header)
    try:
        saved = disks.header_copies(detached)
    except DeviceMissing:
        saved = HeaderCopies(Copies.NONE)
    return Decrypting(detached, intent, copies, saved, holder)


def _reencrypting(found: Device, intent: ReencryptIntent, mapping: Mapping | None, disks: Disks) -> Observed:
    """Look at what gets a new volume key; META never speaks for another header than the one that it names."""
    if intent.partition != found.identity:
        return Damaged(found, f"META announces a re-encryption of partition {intent.partition}, which is not this one")
    if intent.header:
        found = replace(found, header=intent.header)
        try:
            disks.header_copies(found)
        except DeviceMissing:
            return Damaged(found, f"it is being decrypted, and the file with its header is not there: {intent.header}")
    observed = _found(found, None, mapping, disks)
    if isinstance(observed, Damaged) and mapping is not None:
        # Whoever re-encrypts writes one copy after the other all the time: both may have been looked at half written.
        observed = _found(found, None, mapping, disks)
    if isinstance(observed, Damaged):
        return observed
    if not isinstance(observed, Luks2) or observed.header.uuid != intent.header_uuid:
        return Damaged(found, f"META announces a re-encryption of header {intent.header_uuid}, which is not here")
    return replace(observed, reencryption=intent)


def erasing(found: Device, intent: ResetIntent, mapped_name: str, disks: Disks) -> Erasing:
    """Look at what is being erased; not even a mapping of that name on another device stands in the way."""
    mapping = disks.mapping(mapped_name)
    if mapping is None or mapping.backing != found.path:
        return Erasing(found, intent, disks.header_copies(found), None, disks.in_use(found))
    above = Device(mapping.path, found.size_bytes)
    return Erasing(found, intent, disks.header_copies(found), mapping, disks.in_use(above))


def _is_plain_mount(device: Device, disks: Disks) -> bool:
    """Tell a mounted plain filesystem (which may well be in use) from anything else that holds the device."""
    signature = disks.signature(device.path)
    return signature is not None and signature.usage == "filesystem"


class _Probe:
    """The two dearer looks at a device, taken only when the header copies leave the question open."""

    def __init__(self, device: Device, disks: Disks) -> None:
        self.signature: Callable[[], Signature | None] = lambda: disks.signature(device.path)
        self.is_zero: Callable[[], bool] = lambda: disks.is_zero(device)


def classify(
    device: Device, copies: HeaderCopies, intent: FormatIntent | None, mapping: Mapping | None, probe: _Probe
) -> Observed:
    """Turn what was read into an answer; `intent` is known to name this device."""
    match copies.state:
        case Copies.LUKS1:
            return Foreign(device, "a LUKS1 volume")
        case Copies.NONE:
            if intent is not None:
                return _classify_announced(device, intent, mapping, probe)
            return _classify_without_header(device, mapping, probe)
        case Copies.DAMAGED:
            if intent is not None:
                return _classify_announced(device, intent, mapping, probe)
            return Damaged(device, _copy_problems(copies))
        case Copies.EQUAL | Copies.DIFFER | Copies.FIRST_ONLY | Copies.SECOND_ONLY:
            return _classify_header(device, copies, intent, mapping, probe)


def _copy_problems(copies: HeaderCopies) -> str:
    problems = [copy.problem for copy in (copies.first, copies.second) if copy is not None and copy.problem]
    return "no valid LUKS2 header copy: " + "; ".join(problems)


def _classify_header(
    device: Device, copies: HeaderCopies, intent: FormatIntent | None, mapping: Mapping | None, probe: _Probe
) -> Observed:
    header, contradiction = copies.best, _contradiction(device, copies, probe)
    if header is None or contradiction is not None:
        return Damaged(device, contradiction or _copy_problems(copies))
    if header.unfinished_mark:
        return _classify_marked(device, header, intent, mapping)
    if intent is not None and intent.header_uuid != header.uuid:
        return Damaged(device, f"META announces a format with header {intent.header_uuid}, but {header.uuid} is here")
    return Luks2(device, copies, header, mapping, format_intent=intent)


def _contradiction(device: Device, copies: HeaderCopies, probe: _Probe) -> str | None:
    """Say why neither copy may stand for the volume: no cut of ours leaves this behind."""
    first, second = (None if copy is None else copy.header for copy in (copies.first, copies.second))
    if copies.state is Copies.DIFFER and first is not None and second is not None:
        if first.uuid != second.uuid:
            return f"the header copies belong to two volumes, {first.uuid} and {second.uuid}"
        if first.seqid == second.seqid:
            return f"the header copies differ, and both say that they are number {first.seqid}"
    if copies.state is Copies.SECOND_ONLY and not device.header:
        # A repair would write copy 1 over whatever somebody put there (libcryptsetup does not repair then either).
        signature = probe.signature()
        if signature is not None and signature.type != _LUKS_SIGNATURE:
            return f"only the second header copy is left, and somebody put {_name(signature)} over the first"
    return None


def _classify_marked(
    device: Device, header: LuksHeader, intent: FormatIntent | None, mapping: Mapping | None
) -> Observed:
    # The mark alone is never permission to destroy.
    if header.requirements or header.reencrypting:
        return Damaged(device, "the header carries our unfinished mark together with requirement flags")
    if intent is None or intent.header_uuid != header.uuid:
        return Damaged(device, "the header carries our unfinished mark, but META announces no such format")
    return Unfinished(device, intent, header, mapping)


def _classify_announced(device: Device, intent: FormatIntent, mapping: Mapping | None, probe: _Probe) -> Observed:
    """Take zeros, random bytes, torn copies and our own torn filesystem for what a cut left; nothing else."""
    signature = probe.signature()
    if signature is None or signature.type == _LUKS_SIGNATURE:
        return Unfinished(device, intent, None, mapping)
    # An ambivalent signature has no UUID, so an intent without one must not match it.
    if signature.uuid and signature.uuid == intent.header_uuid:
        return Unfinished(device, intent, None, mapping)
    return Damaged(device, f"META announces a format, but somebody put {_name(signature)} here since")


def _classify_without_header(device: Device, mapping: Mapping | None, probe: _Probe) -> Observed:
    if mapping is not None:
        # Its data is still there as long as the mapping is: neither blank nor a plain filesystem.
        return Damaged(device, f"it is open as {mapping.path}, but its LUKS2 header is gone")
    signature = probe.signature()
    if signature is None:
        return Blank(device) if probe.is_zero() else Foreign(device, "data that no known signature explains")
    if signature.usage == "filesystem" and not signature.ambivalent:
        return FilesystemFound(device, signature)
    return Foreign(device, _name(signature))


def _name(signature: Signature) -> str:
    if signature.ambivalent:
        return "several contradicting signatures"
    return signature.type or "an unnamed signature"


def current_header(disks: Disks, device: Device) -> LuksHeader:
    """Return the valid, newer header copy as it is on the medium now; DeviceError where there is none."""
    header = disks.header_copies(device).best
    if header is None:
        raise DeviceError(f"no valid LUKS2 header copy on {device.path}")
    return header


def expect_equal_copies(disks: Disks, device: Device, doing: str) -> None:
    """Raise DeviceError unless both header copies are valid and equal on the medium."""
    state = disks.header_copies(device).state
    if state is not Copies.EQUAL:
        raise DeviceError(f"after {doing}, the header copies of {device.path} do not agree ({state})")
