"""Ctrl-C and errors in a progress callback stop the work cleanly and come out after it."""

from __future__ import annotations

import signal

import pytest

from luksctl.cryptsetup.callbacks import Progress
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.wiping import WipePattern
from luksctl.errors import CryptsetupError
from luksctl.secret import Secret
from luksctl.units import MIB


def _ctrl_c(progress: Progress) -> None:
    if progress.done_bytes >= 18 * MIB:
        signal.raise_signal(signal.SIGINT)


def test_wipe_tells_its_progress(volume: str, key: Secret) -> None:
    """A wipe covers its range, tells how far it is, and leaves the rest alone."""
    seen: list[Progress] = []
    with open(volume, "r+b") as disk:
        disk.seek(16 * MIB)
        disk.write(b"\xff" * (4 * MIB))
    with Device.open(volume) as device:
        device.wipe(WipePattern.ZERO, offset_bytes=17 * MIB, length_bytes=2 * MIB, progress=seen.append)
        assert device.test_key(key, slot=0) == 0
    assert seen
    with open(volume, "rb") as disk:
        disk.seek(16 * MIB)
        data = disk.read(4 * MIB)
    assert data == b"\xff" * MIB + bytes(2 * MIB) + b"\xff" * MIB


def test_random_wipe_leaves_no_zeros(volume: str) -> None:
    """A random wipe is not a wipe with zeros."""
    with Device.open(volume) as device:
        device.wipe(WipePattern.RANDOM, offset_bytes=16 * MIB, length_bytes=MIB)
    with open(volume, "rb") as disk:
        disk.seek(16 * MIB)
        assert len(set(disk.read(MIB))) == 256


def test_ctrl_c_stops_a_wipe(volume: str, key: Secret) -> None:
    """Ctrl-C during a wipe ends it as KeyboardInterrupt before the end of the range, and the handle is still good."""
    with open(volume, "r+b") as disk:
        disk.seek(31 * MIB)
        disk.write(b"\xff" * MIB)
    with Device.open(volume) as device:
        with pytest.raises(KeyboardInterrupt):
            device.wipe(WipePattern.ZERO, offset_bytes=16 * MIB, length_bytes=16 * MIB, progress=_ctrl_c)
        assert device.test_key(key, slot=0) == 0
        device.wipe(WipePattern.ZERO, offset_bytes=16 * MIB, length_bytes=MIB)
    with open(volume, "rb") as disk:
        disk.seek(31 * MIB)
        assert disk.read(MIB) == b"\xff" * MIB


def test_error_in_a_callback_is_the_one_that_comes_out(volume: str) -> None:
    """What the callback raised is raised, not what libcryptsetup makes of it."""

    def fail(_: Progress) -> None:
        raise LookupError("from the callback")

    with Device.open(volume) as device:
        with pytest.raises(LookupError, match="from the callback"):
            device.wipe(WipePattern.ZERO, offset_bytes=16 * MIB, length_bytes=8 * MIB, progress=fail)
        device.wipe(WipePattern.ZERO, offset_bytes=16 * MIB, length_bytes=8 * MIB)


def test_wipe_without_a_range_is_refused(volume: str, key: Secret) -> None:
    """Length 0 means the whole device to libcryptsetup, and is an error here."""
    with Device.open(volume) as device:
        with pytest.raises(ValueError, match="range"):
            device.wipe(WipePattern.ZERO, offset_bytes=0, length_bytes=0)
        with pytest.raises(CryptsetupError):
            device.wipe(WipePattern.ZERO, offset_bytes=1, length_bytes=513)
        assert device.test_key(key, slot=0) == 0
