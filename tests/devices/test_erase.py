"""Erasing that can be proven: every range is zero on the medium, and a device that lies about it is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from luksctl.devices import overwriting
from luksctl.devices.erase import erase_proven, fill, read_back, zeroing
from luksctl.devices.overwriting import Progress, discard, overwrite
from luksctl.devices.tree import BlockTree
from luksctl.devices.untouchable import hardware, why_untouchable
from luksctl.errors import Busy, DeviceError
from luksctl.model.probe import Device, Range
from luksctl.units import MIB
from tests.devices.fake_tree import FakeTree, make_image, needs_root

SIZE = 8 * MIB
NOISE = os.urandom(1 << 20)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Provide an image of 8 MiB that is full of noise."""
    path = make_image(tmp_path / "image", SIZE)
    Path(path).write_bytes(NOISE * 8)
    return path


def test_each_range_is_zero_and_nothing_else_is(image: str) -> None:
    """Passes of any ranges: their bytes are gone, and their neighbours' are not."""
    how = erase_proven(image, ((Range(4096, 512),), (Range(0, 100), Range(SIZE - 3, 3))), exclusive=True)
    assert how.startswith("read back")
    left = Path(image).read_bytes()
    wanted = bytearray(NOISE * 8)
    for start, size in ((4096, 512), (0, 100), (SIZE - 3, 3)):
        wanted[start : start + size] = bytes(size)
    assert left == bytes(wanted)


def test_every_pass_is_on_the_medium_before_the_next_begins(image: str) -> None:
    """Key areas are gone for good before anything that says where they are is."""
    seen: list[str] = []
    real_write, real_sync = os.pwrite, os.fsync

    def write(fd: int, data: bytes, offset: int) -> int:
        seen.append(f"write {offset}")
        return real_write(fd, data, offset)

    def sync(fd: int) -> None:
        seen.append("sync")
        real_sync(fd)

    with mock.patch.object(os, "pwrite", write), mock.patch.object(os, "fsync", sync):
        erase_proven(image, ((Range(65536, 4096),), (Range(0, 4096),)), exclusive=True)
    assert seen[:4] == ["write 65536", "sync", "write 0", "sync"]


def test_a_device_that_keeps_what_was_there_is_told(image: str) -> None:
    """Zeros that were written and do not read back fail by the byte, not silently."""
    with mock.patch.object(os, "pwrite", lambda _fd, data, _offset: len(data)), pytest.raises(DeviceError) as caught:
        erase_proven(image, ((Range(4096, 4096),),), exclusive=True)
    assert "does not read as zero at byte 4096" in str(caught.value)
    assert caught.value.hint is not None


def test_reading_back_finds_one_byte(image: str) -> None:
    """A single bit anywhere in the ranges is enough."""
    with zeroing(image, exclusive=True) as fd:
        fill(fd, Range(0, SIZE))
        os.pwrite(fd, b"\x01", SIZE - 1)
    with pytest.raises(DeviceError, match=f"byte {SIZE - 1}"):
        read_back(image, (Range(0, SIZE),))


def test_overwriting_goes_to_the_end_and_says_where_it_is(image: str) -> None:
    """Every section is zero when its position is given; the last position is the size."""
    with mock.patch.object(overwriting, "_SECTION_BYTES", 3 * MIB):
        positions = []
        for position in overwrite(Device(image, SIZE, image=True), 0, lambda _: None):
            assert Path(image).read_bytes()[:position].count(0) == position
            positions.append(position)
    assert positions == [3 * MIB, 6 * MIB, SIZE]
    assert Path(image).read_bytes().count(0) == SIZE


def test_overwriting_goes_on_from_a_position_and_reads_what_is_zero(image: str) -> None:
    """What lies before the position is not touched, and zeros are not written once more."""
    with zeroing(image, exclusive=True) as fd:
        fill(fd, Range(5 * MIB, 3 * MIB))
    before = Path(image).stat().st_mtime_ns
    written: list[int] = []
    real = os.pwrite

    def write(fd: int, data: bytes, offset: int) -> int:
        written.append(offset)
        return real(fd, data, offset)

    with mock.patch.object(os, "pwrite", write):
        assert list(overwrite(Device(image, SIZE, image=True), 5 * MIB, lambda _: None)) == [SIZE]
    assert written == []
    assert Path(image).stat().st_mtime_ns == before
    assert Path(image).read_bytes()[: 5 * MIB] == (NOISE * 8)[: 5 * MIB]


def test_progress_tells_share_rate_and_time_left() -> None:
    """Nothing for two seconds, then at most every ten, reckoned from where this run began."""
    told: list[str] = []
    clock = iter([0.0, 1.0, 2.5, 4.0, 20.0, 40.0])
    progress = Progress("overwriting it", 100 * MIB, 1100 * MIB, told.append, lambda: next(clock))
    for position in (150, 225, 300, 600, 1050):
        progress.at(position * MIB)
    assert told == [
        "overwriting it: 20 %, 50 MiB/s, 17 s left",
        "overwriting it: 54 %, 25 MiB/s, 20 s left",
        "overwriting it: 95 %, 23.8 MiB/s, 2 s left",
    ]


def test_long_times_are_told_in_hours() -> None:
    """A disk of terabytes takes hours, and nobody counts seconds then."""
    told: list[str] = []
    clock = iter([0.0, 10.0])
    progress = Progress("it", 0, 4000 * 1024 * MIB, told.append, lambda: next(clock))
    progress.at(1024 * MIB)
    assert told == ["it: 0 %, 102.4 MiB/s, 11 h 06 min left"]


def test_an_image_file_takes_no_discards(image: str) -> None:
    """Said as the reason, with every byte as it was."""
    why_not = discard(Device(image, SIZE, image=True), lambda _: None)
    assert why_not is not None
    assert "image file" in why_not
    assert Path(image).read_bytes() == NOISE * 8


def test_a_file_without_write_permission_is_untouchable(image: str) -> None:
    """Told before anything is announced."""
    with mock.patch.object(os, "access", return_value=False):
        assert why_untouchable(Device(image, SIZE, image=True), BlockTree()) == f"{image} is read-only"
    assert why_untouchable(Device(image, SIZE, image=True), BlockTree()) is None


def test_the_hardware_of_an_image_is_nothing(image: str) -> None:
    """No serial number is made up for it."""
    found = hardware(Device(image, SIZE, image=True), BlockTree())
    assert (found.model, found.serial) == ("", "")


def test_the_disk_of_the_running_system_is_untouchable(tmp_path: Path) -> None:
    """Also through LVM or dm-crypt, and the whole disk as well as the partition; another partition of it is not."""
    fake = FakeTree(tmp_path)
    fake.add_disk("sda", "8:0")
    fake.add_partition("sda", 1, "ROOT")
    fake.add_partition("sda", 2, "EPHEMERAL", offset_bytes=200 * MIB)
    fake.add_dm("dm-0", "253:0", "vg-root", "LVM-x", ("sda1",))
    fake.mount("253:0", "/dev/mapper/vg-root", "/")
    for name in ("sda", "sda1", "dm-0"):
        reason = why_untouchable(Device(fake.node(name), MIB), fake.tree)
        assert reason is not None
        assert "mounted at /" in reason
    assert why_untouchable(Device(fake.node("sda2"), MIB), fake.tree) is None


def test_a_read_only_disk_is_untouchable(tmp_path: Path) -> None:
    """The kernel says so before anything is announced."""
    fake = FakeTree(tmp_path)
    fake.add_disk("sda", "8:0", read_only=True)
    assert why_untouchable(Device(fake.node("sda"), MIB), fake.tree) == f"{fake.node('sda')} is read-only"


@pytest.mark.parametrize(
    ("file", "text"), [("serial", "virt-1"), ("device/serial", "nvme 2 "), ("device/vpd_pg80", "\0\x80S3")]
)
def test_the_serial_number_is_that_of_the_disk(tmp_path: Path, file: str, text: str) -> None:
    """Of a partition it is its disk's, wherever the kernel shows it."""
    fake = FakeTree(tmp_path)
    fake.add_disk("sda", "8:0")
    fake.add_partition("sda", 1, "STATE")
    fake.write("sda", file, text)
    fake.write("sda", "device/model", "A Disk")
    found = hardware(Device(fake.node("sda1"), MIB), fake.tree)
    assert (found.model, found.serial) == ("A Disk", text.strip("\0\x80 "))


@pytest.fixture
def loop(image: str) -> Iterator[str]:
    """Provide the image as a loop device."""
    done = subprocess.run(["/sbin/losetup", "--find", "--show", image], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device to be had: {done.stderr.strip()}")
    yield done.stdout.strip()
    subprocess.run(["/sbin/losetup", "--detach", done.stdout.strip()], check=True)


@needs_root
def test_a_block_device_that_is_held_is_busy(loop: str) -> None:
    """Exclusive means that the kernel refuses it before the first write; below a mapping it is not asked for."""
    held = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(Busy):
            erase_proven(loop, ((Range(0, 4096),),), exclusive=True)
        assert erase_proven(loop, ((Range(0, 4096),),), exclusive=False) == "read back from the medium"
    finally:
        os.close(held)


@needs_root
def test_a_block_device_is_discarded_whole(loop: str) -> None:
    """A loop device takes discards: they punch holes into its file."""
    assert discard(Device(loop, SIZE), lambda _: None) is None
