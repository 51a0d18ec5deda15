"""Locks that other processes see: contention, who holds them, and what they never touch."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luksctl.devices.locks import device_lock, volume_lock
from luksctl.errors import Busy, DeviceError, DeviceMissing
from luksctl.model.probe import Device
from luksctl.units import MIB
from tests.devices.fake_tree import make_image

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the flock of `path` until the block ends or its input is closed."""
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


def test_disk_locked_elsewhere_is_busy_and_names_device_and_holder(tmp_path: Path) -> None:
    """The lock is the whole disk's; the message names the partition, the disk and the process."""
    disk = make_image(tmp_path / "disk", MIB)
    device = Device("/dev/sda2", MIB, "uuid", disk)
    with (
        held_by_another_process(disk) as other,
        pytest.raises(Busy, match="/dev/sda2 is locked") as caught,
        device_lock(device, timeout_s=0),
    ):
        pytest.fail("entered a lock that another process holds")
    assert disk in str(caught.value)
    assert f"process {other.pid}" in str(caught.value)


def test_lock_is_taken_when_the_holder_lets_go(tmp_path: Path) -> None:
    """Waiting ends with the lock, not with Busy, when the other process ends within the deadline."""
    disk = make_image(tmp_path / "disk", MIB)
    with held_by_another_process(disk) as other:
        assert other.stdin is not None
        threading.Timer(0.05, other.stdin.close).start()
        with device_lock(Device(disk, MIB), timeout_s=30), pytest.raises(BlockingIOError), open(disk) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_lock_ends_with_an_exception(tmp_path: Path) -> None:
    """An error inside leaves no lock behind."""
    device = Device(make_image(tmp_path / "disk", MIB), MIB)
    with pytest.raises(RuntimeError), device_lock(device, timeout_s=0):
        raise RuntimeError
    with device_lock(device, timeout_s=0):
        pass


def test_image_itself_is_never_locked(tmp_path: Path) -> None:
    """The library takes the flock of an image file and would wait for ours for ever."""
    image = make_image(tmp_path / "image", MIB)
    with device_lock(Device(image, MIB, image=True), timeout_s=0), open(image) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.path.exists(f"{image}.lock")


def test_image_lock_excludes_another_holder(tmp_path: Path) -> None:
    """The sidecar is what two of us contend for, also within one process."""
    device = Device(make_image(tmp_path / "image", MIB), MIB, image=True)
    with device_lock(device, timeout_s=0), pytest.raises(Busy), device_lock(device, timeout_s=0):
        pytest.fail("two holders of one image")


def test_sidecar_is_not_followed_through_a_link(tmp_path: Path) -> None:
    """A link in the sidecar's place is refused: opening it could create a file elsewhere."""
    image = make_image(tmp_path / "image", MIB)
    Path(f"{image}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceError), device_lock(Device(image, MIB, image=True), timeout_s=0):
        pytest.fail("followed the link")
    assert not (tmp_path / "elsewhere").exists()


def test_disk_that_is_gone_is_missing(tmp_path: Path) -> None:
    """A disk that vanished before it was locked is DeviceMissing."""
    with pytest.raises(DeviceMissing), device_lock(Device(str(tmp_path / "sdz"), MIB), timeout_s=0):
        pytest.fail("locked nothing")


def test_volume_lock_excludes_the_same_volume_only(tmp_path: Path) -> None:
    """STATE and EPHEMERAL are worked on at once; STATE twice is not."""
    directory = str(tmp_path / "run")
    with volume_lock("STATE", timeout_s=0, directory=directory):
        with volume_lock("EPHEMERAL", timeout_s=0, directory=directory):
            pass
        with pytest.raises(Busy, match="volume STATE"), volume_lock("STATE", timeout_s=0, directory=directory):
            pytest.fail("two holders of one volume")


def test_volume_lock_files_are_ours_alone(tmp_path: Path) -> None:
    """Anybody who could open the file could hold up a boot."""
    directory = tmp_path / "run"
    with volume_lock("STATE", timeout_s=0, directory=str(directory)):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "STATE.lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("volume", ["", ".", "..", "../STATE", "a/b"])
def test_volume_name_cannot_leave_the_directory(tmp_path: Path, volume: str) -> None:
    """A name with a slash is a mistake, not a path."""
    with pytest.raises(ValueError, match="volume name"), volume_lock(volume, timeout_s=0, directory=str(tmp_path)):
        pytest.fail("locked a path")
