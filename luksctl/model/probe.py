"""What probing a device shows: signatures, partitions, and whether its ends are zero."""

from __future__ import annotations

from luksctl.hints import Final
from luksctl.units import KIB, MIB
from luksctl.value import frozen

# Blank means: these many bytes at either end read as zeros (the default LUKS2 header area, and tails).
BLANK_HEAD_BYTES: Final = 16 * MIB + 64 * KIB
BLANK_TAIL_BYTES: Final = 1 * MIB


@frozen
class Range:
    """Bytes from `offset_bytes` on."""

    offset_bytes: int
    size_bytes: int


def blank_ranges(offset_bytes: int, size_bytes: int) -> tuple[Range, ...]:
    """Return the head and the tail that must be zero for the `size_bytes` at `offset_bytes` to count as Blank."""
    head = min(size_bytes, BLANK_HEAD_BYTES)
    tail = min(size_bytes - head, BLANK_TAIL_BYTES)
    ranges = (Range(offset_bytes, head), Range(offset_bytes + size_bytes - tail, tail))
    return tuple(part for part in ranges if part.size_bytes)


@frozen
class Signature:
    """What libblkid found: `type` is its name (xfs, ext4, crypto_LUKS, gpt …), empty text where it has none.

    `ambivalent` is set when several signatures contradict each other; `type` is then empty.
    """

    type: str
    label: str = ""
    uuid: str = ""
    usage: str = ""
    ambivalent: bool = False


@frozen
class PartitionEntry:
    """One GPT entry of a disk or image; sizes and offsets in bytes, `uuid` lower-case."""

    number: int
    name: str
    uuid: str
    type_uuid: str
    offset_bytes: int
    size_bytes: int


@frozen
class Hardware:
    """What the kernel knows of a disk; texts are empty where it says nothing."""

    model: str = ""
    serial: str = ""


@frozen
class Device:
    """One block device or image file that answers to a volume.

    `partuuid` and `disk` are empty for whole disks and image files. `path` is what to open. `header` is the file that
    the LUKS2 header is in, where it is not on the device itself. `known_as` is what a device that is no GPT partition
    keeps when the kernel gives it another name: its device-mapper UUID, or the path in the settings.
    """

    path: str
    size_bytes: int
    partuuid: str = ""
    disk: str = ""
    image: bool = False
    header: str = ""
    known_as: str = ""

    @property
    def header_path(self) -> str:
        """Return where its LUKS2 header is."""
        return self.header or self.path

    @property
    def identity(self) -> str:
        """Return what intents and records name the device by, the same at each boot."""
        return self.partuuid or self.known_as or self.path
