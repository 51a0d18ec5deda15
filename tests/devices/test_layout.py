"""The arithmetic of the disk layout: for every size of disk, inside, aligned, and without overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.devices.layout import ALIGNMENT_BYTES, MINIMUM_DISK_BYTES, layout
from luksctl.errors import Refused
from luksctl.units import GIB, KIB, MIB

SECTORS = st.sampled_from([512, 4096])
SIZES = st.integers(min_value=MINIMUM_DISK_BYTES // 4096, max_value=64 * 1024 * GIB // 4096)


@given(size=SIZES, sector=SECTORS)
def test_partitions_are_aligned_at_both_ends_and_do_not_overlap(size: int, sector: int) -> None:
    """Each begins on a MiB where the one before it ends, and ends on a MiB."""
    position = ALIGNMENT_BYTES
    for part in layout(size * 4096, sector):
        assert part.offset_bytes == position
        assert part.size_bytes > 0
        assert part.end_bytes % ALIGNMENT_BYTES == 0
        position = part.end_bytes


@given(size=SIZES, sector=SECTORS)
def test_both_tables_have_room(size: int, sector: int) -> None:
    """The backup entries and header fit behind the last partition, and less than 2 MiB is given away."""
    disk_bytes = size * 4096
    end = layout(disk_bytes, sector)[-1].end_bytes
    assert end <= disk_bytes - 16 * KIB - sector
    assert disk_bytes - end < 2 * MIB


@given(size=SIZES)
def test_names_numbers_and_fixed_sizes(size: int) -> None:
    """META has exactly the size by which Talos knows it, STATE is 100 MiB, and EPHEMERAL can hold an encrypted xfs."""
    meta, state, ephemeral = layout(size * 4096)
    assert (meta.number, meta.name, meta.size_bytes) == (1, "META", 1048576)
    assert (state.number, state.name, state.size_bytes) == (2, "STATE", 100 * MIB)
    assert (ephemeral.number, ephemeral.name) == (3, "EPHEMERAL")
    assert ephemeral.size_bytes >= 300 * MIB + 16 * MIB


def test_disk_that_is_too_small_is_refused_with_both_sizes() -> None:
    """The message says what there is and what is needed."""
    with pytest.raises(Refused, match=r"400 MiB.*512 MiB"):
        layout(400 * MIB)
