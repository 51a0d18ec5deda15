"""Which part of the data a re-encryption takes next, and whether it can be read: before the kernel holds it back."""

from __future__ import annotations

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.ondisk import Pread
from luksctl.cryptsetup.reencryption import ReencryptStatus
from luksctl.hints import Any
from luksctl.model.in_place import SHIFT_BYTES
from luksctl.model.intent import ReencryptIntent, ReencryptKind
from luksctl.model.probe import Range
from luksctl.units import MIB


def next_hot_zone(document: dict[str, Any], how: ReencryptIntent) -> Range | None:
    """Return what is read next of the data that is as it was, by the header's JSON; None where none is left."""
    segments = document["segments"]
    before = next((name for name, segment in segments.items() if "backup-previous" in segment.get("flags", ())), None)
    if before is None:
        return None

    def kind(name: str) -> tuple[str, list[str]]:
        return segments[name]["type"], [key for key, each in document["digests"].items() if name in each["segments"]]

    left = [name for name, segment in segments.items() if not segment.get("flags") and kind(name) == kind(before)]
    if not left:
        return None
    # Numbered in the order of the data, which is not that of the device while it moves.
    backward = how.kind is ReencryptKind.ENCRYPT
    segment = segments[(max if backward else min)(left, key=int)]
    offset_bytes, size_bytes = int(segment["offset"]), how.hotzone_bytes or SHIFT_BYTES
    if segment["size"] != "dynamic":
        surplus_bytes = max(int(segment["size"]) - size_bytes, 0)
        size_bytes = min(int(segment["size"]), size_bytes)
        offset_bytes += surplus_bytes if backward else 0
    return Range(offset_bytes, size_bytes)


def expect_readable(luks: Device, how: ReencryptIntent, pread: Pread) -> None:
    """Read the next hot zone before the kernel holds it back below an open mapping; raises what `pread` does.

    A zone that the library cannot read costs the mounted filesystem all of it until the next boot, not only the block.
    """
    if luks.reencryption.state().status is not ReencryptStatus.CLEAN:
        return
    zone = next_hot_zone(luks.header.metadata(), how)
    if zone is not None:
        for at in range(0, zone.size_bytes, MIB):
            pread(zone.offset_bytes + at, min(MIB, zone.size_bytes - at))
