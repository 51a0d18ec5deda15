"""Read what a disk was told, write by write, and make the disk as it was after any of them.

The log is the one of QEMU's blklogwrites driver, in the format of the kernel's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst): a superblock, then for each request one sector that describes
it, followed by its data. Replaying needs no guest, so a power cut at each write costs a file copy.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig import host
from rig.disk import copy_sparse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MAGIC = 0x6A736677736872
SECTOR = 512
SUPERBLOCK = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


class Kind(enum.Enum):
    """Name what the guest asked of the disk."""

    WRITE = "write"
    FLUSH = "flush"
    DISCARD = "discard"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Entry:
    """Describe one request: where on the disk, and where its data lies in the log."""

    kind: Kind
    offset_bytes: int
    size_bytes: int
    fua: bool
    data_at: int


@dataclass(frozen=True, slots=True)
class WriteLog:
    """Hold the requests of one power-on, in the order in which the guest made them."""

    path: Path
    entries: tuple[Entry, ...]

    def data(self, entry: Entry) -> bytes:
        """Return what a write wrote."""
        with self.path.open("rb") as file:
            file.seek(entry.data_at)
            return file.read(entry.size_bytes)

    def writes(self) -> list[int]:
        """Return the numbers of the entries that change bytes: after each of them a power cut is its own case."""
        return [number for number, entry in enumerate(self.entries) if entry.kind in {Kind.WRITE, Kind.DISCARD}]

    def touching(self, offset_bytes: int, size_bytes: int) -> list[int]:
        """Return the numbers of the writes and discards that touch a range of the disk, such as a partition."""
        end = offset_bytes + size_bytes
        return [
            number
            for number in self.writes()
            if self.entries[number].offset_bytes < end
            and offset_bytes < self.entries[number].offset_bytes + self.entries[number].size_bytes
        ]

    def unflushed(self, count: int) -> list[int]:
        """Return which of the first `count` entries are writes that no flush followed: a drive may lose any of them."""
        lost: list[int] = []
        for number, entry in enumerate(self.entries[:count]):
            if entry.kind is Kind.FLUSH:
                lost.clear()
            elif entry.kind is Kind.WRITE and not entry.fua:
                lost.append(number)
        return lost


def read_log(path: Path) -> WriteLog:
    """Read a log; of one that is still being written, the requests that are complete.

    Raises ValueError when the file is no such log.
    """
    with path.open("rb") as file:
        start = file.read(SUPERBLOCK.size).ljust(SUPERBLOCK.size, b"\0")
    # QEMU writes the superblock with the first flush: before that there is a hole.
    magic, version, _, sector_size = SUPERBLOCK.unpack(start)
    if any(start) and (magic, version, sector_size) != (MAGIC, 1, SECTOR):
        raise ValueError(f"{path} is no write log")
    return WriteLog(path, tuple(_entries(path)))


def _entries(path: Path) -> Iterator[Entry]:
    # The superblock's count lags behind, so the end is where an entry is empty or its data is cut off.
    end = path.stat().st_size
    position = SECTOR
    with path.open("rb") as file:
        while position + SECTOR <= end:
            file.seek(position)
            sector, sectors, flags, mark_bytes = ENTRY.unpack(file.read(ENTRY.size))
            if not (sectors or flags):
                return
            kind = _kind(sectors, flags)
            inline = sectors * SECTOR if kind is Kind.WRITE else 0
            if kind is Kind.MARK:
                inline = -(-mark_bytes // SECTOR) * SECTOR
            if position + SECTOR + inline > end:
                return
            yield Entry(kind, sector * SECTOR, sectors * SECTOR, bool(flags & FUA), position + SECTOR)
            position += SECTOR + inline


def _kind(sectors: int, flags: int) -> Kind:
    if flags & MARK:
        return Kind.MARK
    if flags & DISCARD:
        return Kind.DISCARD
    return Kind.WRITE if sectors else Kind.FLUSH


def replay(base: Path, log: WriteLog, count: int, target: Path, *, lost: Collection[int] = ()) -> Path:
    """Make at `target` the disk that `base` was after the first `count` entries, without the writes in `lost`.

    A discarded range reads as zeros afterwards.
    """
    copy_sparse(base, target)
    with target.open("r+b", buffering=0) as file:
        for number, entry in enumerate(log.entries[:count]):
            if number in lost:
                continue
            if entry.kind is Kind.WRITE:
                file.seek(entry.offset_bytes)
                file.write(log.data(entry))
            elif entry.kind is Kind.DISCARD:
                where = [f"--offset={entry.offset_bytes}", f"--length={entry.size_bytes}"]
                host.run(["fallocate", "--punch-hole", *where, str(target)])
    return target
