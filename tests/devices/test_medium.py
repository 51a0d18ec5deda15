"""Reading from the medium, the zeros that mean Blank, and writing them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.devices import medium
from luksctl.devices.erase import erase, erase_head
from luksctl.errors import DeviceError, DeviceMissing
from luksctl.model.probe import BLANK_HEAD_BYTES, BLANK_TAIL_BYTES, Range, blank_ranges
from luksctl.units import KIB, MIB
from tests.devices.fake_tree import make_image, needs_root

SIZE = 32 * MIB


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Provide a blank image of 32 MiB."""
    return make_image(tmp_path / "image", SIZE)


@pytest.fixture
def loop(image: str) -> Iterator[str]:
    """Provide the blank image as a loop device."""
    done = subprocess.run(["/sbin/losetup", "--find", "--show", image], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device to be had: {done.stderr.strip()}")
    yield done.stdout.strip()
    subprocess.run(["/sbin/losetup", "--detach", done.stdout.strip()], check=True)


def put(path: str, offset_bytes: int, data: bytes) -> None:
    """Write and sync `data`."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, offset_bytes)
    os.fsync(fd)
    os.close(fd)


def test_untouched_image_is_zero(image: str) -> None:
    """A fresh image is Blank."""
    assert medium.is_zero(image, SIZE)


@pytest.mark.parametrize(
    "offset",
    [0, 511, 4096, MIB - 1, MIB, BLANK_HEAD_BYTES - 1, SIZE - BLANK_TAIL_BYTES, SIZE - 1],
)
def test_one_byte_in_head_or_tail_is_not_zero(image: str, offset: int) -> None:
    """A single byte at any edge of the ranges that define Blank counts, and its place is told."""
    put(image, offset, b"\x01")
    assert not medium.is_zero(image, SIZE)
    with medium.open_medium(image) as opened:
        assert opened.first_nonzero(blank_ranges(0, SIZE)) == offset


@pytest.mark.parametrize("offset", [BLANK_HEAD_BYTES, SIZE - BLANK_TAIL_BYTES - 1])
def test_bytes_between_head_and_tail_do_not_count(image: str, offset: int) -> None:
    """Blank says nothing about the middle."""
    put(image, offset, b"\x01")
    assert medium.is_zero(image, SIZE)


@given(size=st.integers(min_value=0, max_value=64 * MIB), offset=st.integers(min_value=0, max_value=MIB))
def test_blank_ranges_stay_inside_and_never_overlap(size: int, offset: int) -> None:
    """Small devices are covered once and whole, larger ones at both ends."""
    ranges = blank_ranges(offset, size)
    ends = [offset, *(edge for part in ranges for edge in (part.offset_bytes, part.offset_bytes + part.size_bytes))]
    assert ends == sorted(ends)
    assert ends[-1] == offset + size
    assert sum(part.size_bytes for part in ranges) == min(size, BLANK_HEAD_BYTES + BLANK_TAIL_BYTES)


def test_read_returns_what_was_written_at_any_offset(image: str) -> None:
    """Offsets and lengths need not be aligned, and may cross the 1 MiB pieces."""
    data = os.urandom(3 * MIB + 7)
    put(image, 5, data)
    assert medium.read(image, 5, len(data)) == data
    assert medium.read(image, MIB - 3, 9) == data[MIB - 8 : MIB + 1]


def test_read_beyond_the_end_is_short(image: str) -> None:
    """Reading ends with the device."""
    put(image, SIZE - 2, b"ab")
    assert medium.read(image, SIZE - 2, 100) == b"ab"
    assert medium.read(image, SIZE + 5, 100) == b""


def test_file_of_odd_size_is_read_whole(tmp_path: Path) -> None:
    """A file need not be a multiple of a sector."""
    path = make_image(tmp_path / "odd", 1000)
    put(path, 990, b"0123456789")
    assert medium.read(path, 0, 4096)[990:] == b"0123456789"
    assert not medium.is_zero(path, 1000)


def test_image_says_that_the_page_cache_is_read(image: str) -> None:
    """The reader can tell how much a read proves."""
    with medium.open_medium(image) as opened:
        assert opened.cache_reason is not None
    assert medium.size_of(image) == SIZE
    assert medium.sector_size_of(image) == 512


def test_device_that_is_not_there_is_missing(tmp_path: Path) -> None:
    """A path without anything is DeviceMissing, one that is no device DeviceError."""
    with pytest.raises(DeviceMissing):
        medium.read(str(tmp_path / "none"), 0, 1)
    with pytest.raises(DeviceError, match="neither"):
        medium.read(str(tmp_path), 0, 1)
    with pytest.raises(DeviceMissing):
        medium.flush(str(tmp_path / "none"))


def test_file_that_shrinks_while_read_is_an_error(image: str) -> None:
    """Missing bytes are not taken for zeros."""
    with medium.open_medium(image) as opened:
        os.truncate(image, MIB)
        with pytest.raises(DeviceError, match="ends at byte"):
            opened.first_nonzero(blank_ranges(0, SIZE))


def test_reading_never_writes(image: str) -> None:
    """Looking leaves content and modification time alone."""
    put(image, 7, b"data")
    before = os.stat(image).st_mtime_ns
    medium.is_zero(image, SIZE)
    medium.read(image, 0, MIB)
    medium.flush(image)
    assert os.stat(image).st_mtime_ns == before


def test_erase_touches_its_ranges_and_nothing_else(image: str) -> None:
    """Every byte outside the ranges is what it was."""
    data = os.urandom(SIZE)
    put(image, 0, data)
    erase(image, (Range(10, 20), Range(3 * MIB - 1, MIB + 2)))
    expected = bytearray(data)
    expected[10:30] = bytes(20)
    expected[3 * MIB - 1 : 4 * MIB + 1] = bytes(MIB + 2)
    assert medium.read(image, 0, SIZE) == bytes(expected)


def test_erased_head_is_what_blank_asks_about(image: str) -> None:
    """The head becomes zero to its last byte, the byte after it stays."""
    put(image, 0, b"\xff" * (BLANK_HEAD_BYTES + 1))
    erase_head(image)
    assert medium.is_zero(image, SIZE)
    assert medium.read(image, BLANK_HEAD_BYTES, 1) == b"\xff"


def test_erase_of_a_small_device_stays_inside(tmp_path: Path) -> None:
    """A device smaller than the head does not grow."""
    path = make_image(tmp_path / "small", 100 * KIB)
    put(path, 0, b"\xff" * 100 * KIB)
    erase_head(path)
    assert Path(path).read_bytes() == bytes(100 * KIB)


@needs_root
def test_block_device_is_read_past_the_page_cache(loop: str) -> None:
    """With O_DIRECT nothing that only the cache holds can be seen, and unaligned reads still work."""
    put(loop, 4096 + 3, b"data")
    with medium.open_medium(loop) as opened:
        assert opened.read(4096 + 3, 4) == b"data"
        assert opened.cache_reason is None
        assert opened.size_bytes == SIZE
        assert opened.sector_bytes == 512
    assert not medium.is_zero(loop, SIZE)
    erase_head(loop)
    assert medium.is_zero(loop, SIZE)
