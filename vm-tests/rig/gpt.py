"""Read the partitions of a disk image (UEFI specification, "GUID Partition Table")."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECTOR = 512
HEADER = struct.Struct("<8sIIII QQQQ 16s QIII")
ENTRY = struct.Struct("<16s16sQQQ72s")


@dataclass(frozen=True, slots=True)
class Partition:
    """Say where a partition lies, in bytes, and what it is called."""

    label: str
    guid: uuid.UUID
    offset_bytes: int
    size_bytes: int


def partitions(read: Callable[[int, int], bytes]) -> tuple[Partition, ...]:
    """Return the partitions that the first copy of the table lists; `read` takes an offset and a length in bytes.

    Raises ValueError when there is no table or its checksum does not match.
    """
    header = read(SECTOR, HEADER.size)
    fields = HEADER.unpack(header)
    magic, _, header_size, checksum = fields[:4]
    if magic != b"EFI PART" or header_size != HEADER.size:
        raise ValueError("no partition table")
    if zlib.crc32(header[:16] + bytes(4) + header[20:]) != checksum:
        raise ValueError("the partition table's checksum does not match")
    first_sector, count, entry_size = fields[10:13]
    found = []
    for number in range(count):
        raw = read(first_sector * SECTOR + number * entry_size, ENTRY.size)
        kind, guid, first, last, _, name = ENTRY.unpack(raw)
        if kind != bytes(16):
            label = name.decode("utf-16-le").rstrip("\0")
            size_bytes = (last - first + 1) * SECTOR
            found.append(Partition(label, uuid.UUID(bytes_le=guid), first * SECTOR, size_bytes))
    return tuple(found)
