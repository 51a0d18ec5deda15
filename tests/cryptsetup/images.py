"""Images with signatures and partition tables, written byte by byte."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass

from luksctl.units import MIB

_SECTOR = 512
_ENTRIES, _ENTRY_BYTES = 128, 128
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


@dataclass(frozen=True, slots=True)
class Part:
    """One partition to write; offset and size in bytes."""

    name: str
    uuid: uuid.UUID
    offset_bytes: int
    size_bytes: int


def swap(uuid_bytes: bytes = bytes(range(16)), label: bytes = b"swap label") -> bytes:
    """Return a page that is a Linux swap signature of version 1."""
    page = bytearray(4096)
    struct.pack_into("<III", page, 1024, 1, 255, 0)
    page[1036:1052] = uuid_bytes
    page[1052 : 1052 + len(label)] = label
    page[4086:] = b"SWAPSPACE2"
    return bytes(page)


def squashfs() -> bytes:
    """Return a superblock of squashfs 4.0."""
    return struct.pack("<4sIIIIHHHHHHQQ", b"hsqs", 1, 0, 131072, 0, 1, 17, 0, 1, 4, 0, 0, 4096).ljust(96, b"\0")


def gpt(size_bytes: int, disk: uuid.UUID, parts: list[Part]) -> dict[int, bytes]:
    """Return the pieces of a GUID partition table by offset: protective MBR, primary and backup."""
    sectors = size_bytes // _SECTOR
    entries = b"".join(_entry(part) for part in parts).ljust(_ENTRIES * _ENTRY_BYTES, b"\0")
    protective = bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, sectors - 1)
    return {
        0: protective.ljust(510, b"\0") + b"\x55\xaa",
        _SECTOR: _header(1, sectors - 1, 2, sectors, disk, entries),
        2 * _SECTOR: entries,
        size_bytes - 33 * _SECTOR: entries,
        size_bytes - _SECTOR: _header(sectors - 1, 1, sectors - 33, sectors, disk, entries),
    }


def _entry(part: Part) -> bytes:
    first = part.offset_bytes // _SECTOR
    last = first + part.size_bytes // _SECTOR - 1
    head = struct.pack("<16s16sQQQ", LINUX_DATA.bytes_le, part.uuid.bytes_le, first, last, 0)
    return head + part.name.encode("utf-16-le").ljust(72, b"\0")


def _header(here: int, other: int, table: int, sectors: int, disk: uuid.UUID, entries: bytes) -> bytes:
    fields = (here, other, 34, sectors - 34, disk.bytes_le, table, _ENTRIES, _ENTRY_BYTES, zlib.crc32(entries))
    layout = "<8sIIIIQQQQ16sQIII"
    unsigned = struct.pack(layout, b"EFI PART", 0x10000, 92, 0, 0, *fields)
    return struct.pack(layout, b"EFI PART", 0x10000, 92, zlib.crc32(unsigned), 0, *fields).ljust(_SECTOR, b"\0")


STATE_PART = Part("STATE", uuid.UUID("aaaaaaaa-0000-0000-0000-00000000000a"), 2 * MIB, 4 * MIB)
EPHEMERAL_PART = Part("EPHEMERAL", uuid.UUID("bbbbbbbb-0000-0000-0000-00000000000b"), 6 * MIB, 8 * MIB)
