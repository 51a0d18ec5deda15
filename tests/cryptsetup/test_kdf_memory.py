"""Key derivations do not start without the memory they need, and those of all processes share what there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.cryptsetup.kdf import KdfBounds, heaviest_keyslot
from luksctl.cryptsetup.kdf_memory import KdfMemory
from luksctl.errors import Busy, DeviceError, KdfOutOfMemory
from luksctl.model import probe
from luksctl.model.config import CHEAPEST_KDF, KdfCost
from luksctl.secret import Secret
from luksctl.units import KIB, MIB

TWO_MIB = KdfCost(time=4, memory_kib=2 * KIB, threads=1)


def _memory(directory: Path, available_kib: int | None, *, shared_kib: int = 100, timeout_s: float = 0.0) -> KdfMemory:
    return KdfMemory(lambda: available_kib, str(directory / "kdf.lock"), shared_kib, timeout_s)


def _bounds(memory: KdfMemory) -> KdfBounds:
    return KdfBounds(memory=lambda: memory)


@pytest.fixture
def costly(volume: str, other_key: Secret, volume_key: Secret) -> str:
    """Return the volume with a slot 1 that takes 2 MiB to open with `other_key`."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(1, other_key, volume_key, TWO_MIB)
    return volume


UNLOCKS: list[Callable[[Device, Secret], object]] = [
    lambda device, key: device.test_key(key, slot=1),
    lambda device, key: device.test_key(key),
    lambda device, key: device.volume_key(key, slot=1),
    lambda device, key: device.keyslots.add_by_passphrase(2, key, key, CHEAPEST_KDF),
    lambda device, key: device.keyslots.change(1, 2, key, key, CHEAPEST_KDF),
    lambda device, key: device.mappings.activate_by_passphrase("luksctl-test", key, slot=1),
    lambda device, key: device.mappings.resume_by_passphrase("luksctl-test", key, slot=1),
]


@pytest.mark.parametrize("unlock", UNLOCKS)
def test_a_slot_that_needs_more_than_there_is_is_not_tried(
    tmp_path: Path, costly: str, other_key: Secret, unlock: Callable[[Device, Secret], object]
) -> None:
    """The error names the slot, what it needs and what there is."""
    bounds = _bounds(_memory(tmp_path, 2 * KIB - 1))
    with Device.open(costly, bounds=bounds) as device, pytest.raises(KdfOutOfMemory) as caught:
        unlock(device, other_key)
    assert caught.value.slot == 1
    assert "needs 2 MiB of memory, and 2.0 MiB are available" in caught.value.cause


def test_the_slot_beside_it_opens(tmp_path: Path, costly: str, key: Secret) -> None:
    """Another key needs less, and is asked by its own slot."""
    with Device.open(costly, bounds=_bounds(_memory(tmp_path, 1))) as device:
        assert device.test_key(key, slot=0) == 0


def test_a_slot_is_not_written_either(tmp_path: Path, volume: str, other_key: Secret, volume_key: Secret) -> None:
    """Making a slot derives a key too; nothing of it is on the disk then."""
    with Device.open(volume, bounds=_bounds(_memory(tmp_path, 1))) as device:
        for add in (device.keyslots.add_by_volume_key, device.keyslots.add_unbound):
            with pytest.raises(KdfOutOfMemory) as caught:
                add(1, other_key, volume_key, TWO_MIB)
            assert caught.value.slot == 1
        assert device.keyslots.numbers() == (0,)


@pytest.mark.parametrize("available_kib", [2 * KIB, 1 * MIB, None])
def test_enough_or_unknown_memory_opens(
    tmp_path: Path, costly: str, other_key: Secret, available_kib: int | None
) -> None:
    """A kernel that does not say how much there is keeps nobody from opening."""
    headers = LuksHeaders(_read, _bounds(_memory(tmp_path, available_kib)))
    headers.test_key(probe.Device(costly, os.path.getsize(costly), image=True), 1, other_key)


def _read(path: str, offset: int, length: int) -> bytes:
    with open(path, "rb") as source:
        return os.pread(source.fileno(), length, offset)


def test_through_the_port_the_error_names_the_device(tmp_path: Path, costly: str, other_key: Secret) -> None:
    """The volume is the caller's to name."""
    headers = LuksHeaders(_read, _bounds(_memory(tmp_path, 1)))
    with pytest.raises(KdfOutOfMemory) as caught:
        headers.volume_key(probe.Device(costly, os.path.getsize(costly), image=True), 1, other_key)
    assert (caught.value.volume, caught.value.slot) == (None, 1)
    assert costly in (caught.value.operation or "")


def test_random_keys_ask_nobody(tmp_path: Path, volume: str, key: Secret) -> None:
    """Slots of 32 KiB wait for no lock, and open where the lock file cannot be made."""
    memory = KdfMemory(lambda: 1, str(tmp_path / "gone" / "kdf.lock"))
    with Device.open(volume, bounds=_bounds(memory)) as device:
        assert device.test_key(key, slot=0) == 0
    with pytest.raises(DeviceError, match="cannot be opened"), memory.reserve(1, 0, "disk"):
        pytest.fail("nothing was reserved")


def test_the_heaviest_slot_counts() -> None:
    """Of one slot, or of all that an unlock without a number would try; PBKDF2 takes no memory."""
    metadata = {
        "keyslots": {
            "0": {"type": "luks2", "kdf": {"type": "argon2id", "memory": 5}},
            "3": {"type": "luks2", "kdf": {"type": "argon2i", "memory": 7}},
            "4": {"type": "luks2", "kdf": {"type": "pbkdf2"}},
            "5": {"type": "reencrypt"},
        }
    }
    assert [heaviest_keyslot(metadata, slot) for slot in (None, 0, 4, 9)] == [(3, 7), (0, 5), (4, 0), (9, 0)]


# ---- shared by all -------------------------------------------------------------------------------------------------


def test_derivations_run_at_once_within_the_share(tmp_path: Path) -> None:
    """Two that fit run together, a third waits; when one ends, its place is free again."""
    memory = _memory(tmp_path, 1000)
    with memory.reserve(50, 0, "first"), ExitStack() as second:
        second.enter_context(memory.reserve(30, 0, "second"))
        with pytest.raises(Busy), memory.reserve(40, 0, "third"):
            pytest.fail("more than the share is in use")
        second.close()
        with memory.reserve(40, 0, "third"), memory.reserve(10, 0, "fourth"):
            pass


def test_one_that_needs_more_than_the_share_runs_alone(tmp_path: Path) -> None:
    """A volume made by others may cost a GiB; it opens, and nothing beside it."""
    memory = _memory(tmp_path, 1000)
    with memory.reserve(500, 0, "large"), pytest.raises(Busy), memory.reserve(1, 0, "small"):
        pytest.fail("it ran beside the large one")
    with memory.reserve(1, 0, "small"), pytest.raises(Busy), memory.reserve(500, 0, "large"):
        pytest.fail("it ran beside the small one")


def test_where_memory_is_short_each_runs_alone(tmp_path: Path) -> None:
    """Less than the share is available, and nobody can tell who of the others has taken his part of it already."""
    memory = _memory(tmp_path, 99)
    with memory.reserve(10, 0, "first"), pytest.raises(Busy), memory.reserve(10, 0, "second"):
        pytest.fail("both ran")


def test_a_refusal_frees_the_share(tmp_path: Path) -> None:
    """Who needs more than there is leaves nothing reserved behind."""
    memory = _memory(tmp_path, 50)
    with pytest.raises(KdfOutOfMemory), memory.reserve(60, 3, "disk"):
        pytest.fail("it ran")
    with memory.reserve(50, 3, "disk"):
        pass


def test_memory_that_others_give_back_counts(tmp_path: Path) -> None:
    """Who had to wait asks again: what was missing may have been what the other one used."""
    available = [40]
    memory = KdfMemory(lambda: available[0], str(tmp_path / "kdf.lock"), 100, 10.0)
    waits = Event()
    opened: list[int] = []

    def second() -> None:
        waits.set()
        with memory.reserve(60, 1, "second"):
            opened.append(1)

    waiter = Thread(target=second)
    with memory.reserve(40, 0, "first"):
        waiter.start()
        waits.wait()
        assert opened == []
        available[0] = 80
    waiter.join()
    assert opened == [1]


def test_a_process_that_died_holds_nothing(tmp_path: Path) -> None:
    """The kernel drops its range with it; a lock file that lies about means nothing."""
    memory = _memory(tmp_path, 1000)
    child = os.fork()
    if child == 0:
        with memory.reserve(100, 0, "child"):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with memory.reserve(100, 0, "parent"):
        assert (tmp_path / "kdf.lock").read_bytes() == b""
