"""A handle is used by its thread, until it is closed, and never from a callback."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from luksctl.cryptsetup.callbacks import Progress
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.wiping import WipePattern
from luksctl.errors import CryptsetupError
from luksctl.secret import Secret
from luksctl.units import MIB
from tests.marker import shown_in

USES: list[Callable[[Device], object]] = [
    lambda device: device.load(),
    lambda device: device.header.uuid,
    lambda device: device.keyslots.numbers(),
    lambda device: device.keyslots.status(0),
    lambda device: device.keyslots.destroy(0),
    lambda device: device.tokens.get(0),
    lambda device: device.mappings.status("x"),
    lambda device: device.reencryption.state(),
]


@pytest.mark.parametrize("use", USES)
def test_use_after_close_raises(volume: str, use: Callable[[Device], object]) -> None:
    """A closed device refuses every use, and a second close does nothing."""
    device = Device.open(volume)
    device.close()
    device.close()
    with pytest.raises(ValueError, match="closed"):
        use(device)
    assert "closed" in repr(device)


def test_use_from_another_thread_raises(volume: str) -> None:
    """Another thread can neither use nor close a device, which stays good for its own."""
    caught: list[BaseException] = []
    with Device.open(volume) as device:

        def trespass() -> None:
            for act in (*USES, Device.close):
                try:
                    act(device)
                except RuntimeError as error:
                    caught.append(error)

        thread = threading.Thread(target=trespass)
        thread.start()
        thread.join()
        assert len(caught) == len(USES) + 1
        assert all("another thread" in str(error) for error in caught)
        assert device.keyslots.numbers() == (0,)


def test_use_inside_a_callback_raises(volume: str) -> None:
    """A progress callback that uses or closes the device at work stops the work, and its error comes out."""
    with Device.open(volume) as device:
        for act in (Device.close, Device.load):

            def meddle(_: Progress, act: Callable[[Device], None] = act) -> None:
                act(device)

            with pytest.raises(RuntimeError, match="not from a callback"):
                device.wipe(WipePattern.ZERO, offset_bytes=16 * MIB, length_bytes=MIB, progress=meddle)
        assert device.keyslots.numbers() == (0,)


def test_forgotten_device_is_freed_with_a_warning(volume: str) -> None:
    """A device that nobody closed is given back at garbage collection, and says so."""
    forgotten = [Device.open(volume)]
    with pytest.warns(ResourceWarning, match="never closed"):
        forgotten.clear()
    with Device.open(volume) as again:
        assert again.keyslots.numbers() == (0,)


def test_device_has_no_public_constructor() -> None:
    """A device cannot be made without a handle."""
    with pytest.raises(TypeError, match=r"Device\.open"):
        Device()


def test_no_key_in_any_repr(volume: str, key: Secret, other_key: Secret) -> None:
    """Neither the device nor an error about a key shows it."""
    caught: list[CryptsetupError] = []
    with Device.open(volume) as device:
        shown = [repr(device), repr(device.keyslots)]
        for secret, slot in ((key, 9), (key, 31), (other_key, 0)):
            with pytest.raises(CryptsetupError) as error:
                device.test_key(secret, slot=slot)
            caught.append(error.value)
    shown += [f"{error!r} {error} {error.fields()} {error.log} {error.__dict__}" for error in caught]
    assert not shown_in("\n".join(shown))
    assert not shown_in("\n".join(shown), b"another key")
