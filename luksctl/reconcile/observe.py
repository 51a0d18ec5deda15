"""Find out what is on a volume's device. Reads only; every answer is one of the nine in model/observed.py."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.model.config import VolumeSettings
from luksctl.model.header import Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import MetaFacts
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
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

_LUKS_SIGNATURE = "crypto_LUKS"


def identity(device: Device) -> str:
    """Return what an intent names the device by: its GPT UUID, or its path where there is no partition."""
    return device.partuuid or device.path


def observe(volume: str, settings: VolumeSettings, mapped_name: str, meta: MetaFacts, disks: Disks) -> Observed:
    """Find the device of `volume` and say what is on it; does not wait (see `Disks.find` for waiting)."""
    found = disks.find(volume, settings, timeout_s=0)
    if isinstance(found, Missing | Ambiguous):
        return found
    recorded = meta.record.partition(volume)
    if recorded is not None and recorded != identity(found):
        reason = f"META records partition {recorded}, but {found.path} is {identity(found)}"
        return Ambiguous((found.path,), reason)
    mapping = disks.mapping(mapped_name)
    if mapping is not None and mapping.backing != found.path:
        return Damaged(found, f"/dev/mapper/{mapped_name} is open on another device, {mapping.backing}")
    if mapping is None:
        holder = disks.in_use(found)
        if holder is not None and not _is_plain_mount(found, disks):
            return Damaged(found, f"the device is in use by {holder}")
    intent = meta.record.intent(volume)
    if intent is not None and intent.partition != identity(found):
        return Damaged(found, f"META announces a format of partition {intent.partition}, which is not this one")
    return classify(found, disks.header_copies(found), intent, mapping, _Probe(found, disks))


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
            return _classify_without_header(device, intent, mapping, probe)
        case Copies.DAMAGED:
            if intent is not None:
                return Unfinished(device, intent, None, mapping)
            return Damaged(device, _copy_problems(copies))
        case Copies.EQUAL | Copies.DIFFER | Copies.FIRST_ONLY | Copies.SECOND_ONLY:
            header = copies.best
            if header is None:
                return Damaged(device, _copy_problems(copies))
            return _classify_header(device, copies, header, intent, mapping)


def _copy_problems(copies: HeaderCopies) -> str:
    problems = [copy.problem for copy in (copies.first, copies.second) if copy is not None and copy.problem]
    return "no valid LUKS2 header copy: " + "; ".join(problems)


def _classify_header(
    device: Device, copies: HeaderCopies, header: LuksHeader, intent: FormatIntent | None, mapping: Mapping | None
) -> Observed:
    ours = intent is not None and intent.header_uuid == header.uuid
    if not header.unfinished_mark:
        if intent is not None and not ours:
            return Damaged(
                device, f"META announces a format with header {intent.header_uuid}, but {header.uuid} is here"
            )
        return Luks2(device, copies, header, mapping, format_intent=intent)
    # The mark alone is never permission to destroy.
    if header.requirements or header.reencrypting:
        return Damaged(device, "the header carries our unfinished mark together with requirement flags")
    if intent is None or not ours:
        return Damaged(device, "the header carries our unfinished mark, but META announces no such format")
    return Unfinished(device, intent, header, mapping)


def _classify_without_header(
    device: Device, intent: FormatIntent | None, mapping: Mapping | None, probe: _Probe
) -> Observed:
    signature = probe.signature()
    if intent is not None:
        if signature is None or signature.type == _LUKS_SIGNATURE or signature.uuid == intent.header_uuid:
            return Unfinished(device, intent, None, mapping)
        return Damaged(device, f"META announces a format, but somebody put {_name(signature)} here since")
    if signature is None:
        if probe.is_zero():
            return Blank(device)
        return Foreign(device, "data that no known signature explains")
    if signature.usage == "filesystem" and not signature.ambivalent:
        return FilesystemFound(device, signature)
    return Foreign(device, _name(signature))


def _name(signature: Signature) -> str:
    if signature.ambivalent:
        return "several contradicting signatures"
    return signature.type or "an unnamed signature"
