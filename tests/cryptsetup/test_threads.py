"""While C works, Python goes on: the interpreter lock is let go, so volumes unlock side by side.

The switch interval is set so long that no thread is ever interrupted: another one runs only where the first lets go.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.kdf import Pbkdf2Cost
from luksctl.secret import Secret
from tests.cryptsetup.conftest import make_image

_SLOW = Pbkdf2Cost(800_000)


@pytest.fixture
def no_switching() -> Iterator[None]:
    """Let a thread keep the interpreter until it lets go of it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def slow_volume(volume: str, other_key: Secret, volume_key: Secret) -> str:
    """Return `volume` with a slot 1 that takes long to open with `other_key`."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(1, other_key, volume_key, _SLOW)
    return volume


@pytest.mark.usefixtures("no_switching")
def test_second_volume_unlocks_while_the_first_one_does(
    slow_volume: str, tmp_path: Path, key: Secret, other_key: Secret
) -> None:
    """A cheap volume is loaded and unlocked in a thread before the long unlock of another volume has ended."""
    quick_volume = make_image(tmp_path / "quick.img")
    Path(quick_volume).write_bytes(Path(slow_volume).read_bytes())
    go, slow_ended = threading.Event(), threading.Event()
    overtaken: list[bool] = []

    def unlock_quickly() -> None:
        go.wait()
        with Device.open(quick_volume) as device:
            device.test_key(key, slot=0)
        overtaken.append(not slow_ended.is_set())

    thread = threading.Thread(target=unlock_quickly)
    thread.start()
    with Device.open(slow_volume) as device:
        go.set()
        assert device.test_key(other_key, slot=1) == 1
        slow_ended.set()
    thread.join()
    assert overtaken == [True]
