"""Reading write logs and replaying them, on logs made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import writelog
from rig.disk import MIB
from rig.writelog import ENTRY, MAGIC, SECTOR, SUPERBLOCK, Kind, read_log, replay

A, B = b"A" * SECTOR, b"B" * SECTOR


def superblock() -> bytes:
    """Return the first sector of a log."""
    return SUPERBLOCK.pack(MAGIC, 1, 0, SECTOR).ljust(SECTOR, b"\0")


def entry(sector: int, sectors: int, flags: int = 0, data: bytes = b"") -> bytes:
    """Return one request as the log holds it."""
    return ENTRY.pack(sector, sectors, flags, 0).ljust(SECTOR, b"\0") + data


def whole_log(path: Path) -> Path:
    """Write a log of two writes to the same sector, a flush between, and a discard."""
    requests = entry(2, 1, 0, A) + entry(0, 0, writelog.FLUSH) + entry(2, 1, 0, B) + entry(4, 2, writelog.DISCARD)
    path.write_bytes(superblock() + requests)
    return path


def test_entries_are_read_in_order_with_their_data(tmp_path: Path) -> None:
    """Each request has its kind, its place in bytes, and its data."""
    log = read_log(whole_log(tmp_path / "log"))
    assert [each.kind for each in log.entries] == [Kind.WRITE, Kind.FLUSH, Kind.WRITE, Kind.DISCARD]
    assert [log.data(log.entries[number]) for number in (0, 2)] == [A, B]
    assert log.writes() == [0, 2, 3]
    assert log.touching(2 * SECTOR, 1) == [0, 2]
    assert log.touching(5 * SECTOR, 1) == [3]


@pytest.mark.parametrize("count", range(5))
def test_replay_makes_the_disk_after_each_entry(tmp_path: Path, count: int) -> None:
    """After n entries the disk holds what the first n of them wrote, and nothing of the later ones."""
    base = tmp_path / "base"
    base.write_bytes(b"x" * (8 * SECTOR))
    log = read_log(whole_log(tmp_path / "log"))
    made = replay(base, log, count, tmp_path / "made").read_bytes()
    written = {0: b"x" * SECTOR, 1: A, 2: A, 3: B, 4: B}[count]
    tail = b"x" * SECTOR + (bytes(2 * SECTOR) if count == 4 else b"x" * (2 * SECTOR)) + b"x" * (2 * SECTOR)
    assert made == b"x" * (2 * SECTOR) + written + tail


def test_lost_writes_are_left_out_and_only_unflushed_ones_may_be_lost(tmp_path: Path) -> None:
    """A write before a flush is safe; one after it may be lost, and replay can leave it out."""
    log = read_log(whole_log(tmp_path / "log"))
    assert log.unflushed(1) == [0]
    assert log.unflushed(2) == []
    assert log.unflushed(3) == [2]
    base = tmp_path / "base"
    base.write_bytes(bytes(MIB))
    made = replay(base, log, 3, tmp_path / "made", lost={2}).read_bytes()
    assert made[2 * SECTOR : 3 * SECTOR] == A


def test_request_cut_off_in_the_middle_is_not_listed(tmp_path: Path) -> None:
    """QEMU was killed while it wrote the last request's data: the log ends before that request."""
    path = tmp_path / "log"
    path.write_bytes(superblock() + entry(2, 1, 0, A) + entry(3, 2, 0, B))
    assert len(read_log(path).entries) == 1


def test_log_without_superblock_yet_is_read(tmp_path: Path) -> None:
    """Before the first flush the superblock is a hole; the requests after it count, and an empty log has none."""
    path = tmp_path / "log"
    path.write_bytes(bytes(SECTOR) + entry(2, 1, 0, A))
    assert len(read_log(path).entries) == 1
    path.write_bytes(b"")
    assert read_log(path).entries == ()


def test_other_file_is_refused(tmp_path: Path) -> None:
    """A file that is no write log is an error, not an empty log."""
    path = tmp_path / "log"
    path.write_bytes(b"not a log" * 100)
    with pytest.raises(ValueError, match="no write log"):
        read_log(path)
