"""Reading partition tables of disk images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rig import gpt
from rig.disk import MIB, Disk, Shelf

needs_sgdisk = pytest.mark.skipif(shutil.which("sgdisk", path="/usr/sbin:/sbin:/usr/bin") is None, reason="no sgdisk")


@needs_sgdisk
def test_talos_layout_has_aligned_partitions_of_the_documented_sizes(tmp_path: Path) -> None:
    """META and STATE have their sizes, EPHEMERAL the rest, and each starts and ends on a multiple of 4096 bytes."""
    disk = Shelf(tmp_path).talos()
    meta, state, ephemeral = disk.partitions()
    assert (meta.label, state.label, ephemeral.label) == ("META", "STATE", "EPHEMERAL")
    assert (meta.size_bytes, state.size_bytes) == (1 * MIB, 100 * MIB)
    assert ephemeral.size_bytes > 400 * MIB
    for partition in (meta, state, ephemeral):
        assert partition.offset_bytes % 4096 == 0
        assert partition.size_bytes % 4096 == 0


@needs_sgdisk
def test_damaged_table_is_an_error(tmp_path: Path) -> None:
    """A table whose checksum does not match is not read as if it were whole."""
    disk = Shelf(tmp_path).talos()
    disk.write(gpt.SECTOR + 40, b"\xff")
    with pytest.raises(ValueError, match="checksum"):
        disk.partitions()


def test_blank_disk_has_no_table(tmp_path: Path) -> None:
    """A disk of zeros has no partition table."""
    with pytest.raises(ValueError, match="no partition table"):
        Shelf(tmp_path).blank(size_mib=1).partitions()


def test_marker_is_found_across_a_chunk_border_and_not_in_a_hole(tmp_path: Path) -> None:
    """A marker that straddles two reads is found; a sparse disk without it is not said to contain it."""
    disk: Disk = Shelf(tmp_path).blank(size_mib=8)
    marker = b"marker bytes"
    assert not disk.contains(marker)
    disk.write(0, b"x" * (2 * MIB))
    assert not disk.contains(marker)
    disk.write(MIB - 5, marker)
    assert disk.contains(marker)
