"""A header that asks for a key derivation without end is refused before anything is derived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.kdf import KdfBounds, Pbkdf2Cost
from luksctl.cryptsetup.reencryption import ReencryptParameters
from luksctl.errors import KdfOutOfBounds
from luksctl.model.config import CHEAPEST_KDF
from luksctl.secret import Secret
from tests.cryptsetup.forging import forge_json, reader


def _forge(path: str, **costs: object) -> None:
    forge_json(path, lambda document: document["keyslots"]["0"]["kdf"].update(costs))


UNLOCKS: list[Callable[[Device, Secret], object]] = [
    lambda device, key: device.test_key(key, slot=0),
    lambda device, key: device.test_key(key),
    lambda device, key: device.volume_key(key, slot=0),
    lambda device, key: device.keyslots.add_by_passphrase(1, key, key, CHEAPEST_KDF),
    lambda device, key: device.keyslots.change(0, 1, key, key, CHEAPEST_KDF),
    lambda device, key: device.mappings.activate_by_passphrase("luksctl-test", key, slot=0),
    lambda device, key: device.mappings.resume_by_passphrase("luksctl-test", key, slot=0),
    lambda device, key: device.reencryption.start(ReencryptParameters("aes-xts-plain64"), key, old_slot=0, new_slot=0),
]


@pytest.mark.parametrize("unlock", UNLOCKS)
@pytest.mark.parametrize("time", [2**32, 2**32 - 1, 2**31])
def test_time_without_end_is_refused(
    volume: str, key: Secret, unlock: Callable[[Device, Secret], object], time: int
) -> None:
    """Every call that would run the key derivation refuses a forged time, and names slot and cost."""
    _forge(volume, time=time)
    with Device.open(volume) as device, pytest.raises(KdfOutOfBounds, match=f"time {time} in keyslot 0") as caught:
        unlock(device, key)
    assert caught.value.slot == 0


def test_header_from_a_copy_is_checked_too(volume: str, key: Secret) -> None:
    """The copy in memory asks for what the medium asked for."""
    _forge(volume, time=2**32)
    with Device.from_copy(copy_header(*reader(volume)), volume) as device, pytest.raises(KdfOutOfBounds):
        device.test_key(key, slot=0)


def test_forged_digest_stops_an_unlock_by_volume_key(volume: str, volume_key: Secret) -> None:
    """Verifying a volume key runs the digest, so its iterations are bounded as well."""
    forge_json(volume, lambda document: document["digests"]["0"].update(iterations=2**31 - 1))
    with Device.open(volume) as device:
        with pytest.raises(KdfOutOfBounds, match="digest 0"):
            device.verify_volume_key(volume_key)
        with pytest.raises(KdfOutOfBounds, match="digest 0"):
            device.mappings.activate_by_volume_key("luksctl-test", volume_key)
        with pytest.raises(KdfOutOfBounds, match="digest 0"):
            device.mappings.resume_by_volume_key("luksctl-test", volume_key)


def test_good_slot_opens_beside_a_forged_one(volume: str, key: Secret, other_key: Secret, volume_key: Secret) -> None:
    """A forged slot is refused by number and in a search; the slot beside it opens by its number."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(1, other_key, volume_key, Pbkdf2Cost(1000))
    _forge(volume, time=2**32)
    with Device.open(volume) as device:
        assert device.test_key(other_key, slot=1) == 1
        with pytest.raises(KdfOutOfBounds):
            device.test_key(other_key)
        with pytest.raises(KdfOutOfBounds):
            device.test_key(key, slot=0)


def test_own_bounds_are_kept(volume: str, key: Secret) -> None:
    """A caller may accept less than the default."""
    with Device.open(volume, bounds=KdfBounds(max_time=3)) as device, pytest.raises(KdfOutOfBounds, match="1 to 3"):
        device.test_key(key, slot=0)


def _metadata(kdf: dict[str, Any], *, iterations: object = 1000, stripes: object = 4000) -> dict[str, Any]:
    return {
        "digests": {"0": {"type": "pbkdf2", "iterations": iterations}},
        "keyslots": {"3": {"type": "luks2", "kdf": kdf, "af": {"stripes": stripes}}},
    }


_ARGON = {"type": "argon2id", "time": 4, "memory": 1048576, "cpus": 4}


@pytest.mark.parametrize(
    "metadata",
    [
        _metadata(_ARGON),
        _metadata({**_ARGON, "memory": 4194304, "time": 20}),
        _metadata({"type": "pbkdf2", "iterations": 30_000_000}),
        {**_metadata(_ARGON), "keyslots": {"9": {"type": "reencrypt"}}},
    ],
)
def test_costs_that_cryptsetup_writes_are_accepted(metadata: dict[str, Any]) -> None:
    """The default bounds leave room for what `cryptsetup luksFormat` writes, also with an --iter-time of its own."""
    KdfBounds().check(metadata, None, "disk")


@pytest.mark.parametrize(
    "metadata",
    [
        _metadata({**_ARGON, "time": 0}),
        _metadata({**_ARGON, "time": -1}),
        _metadata({**_ARGON, "time": "4"}),
        _metadata({**_ARGON, "time": True}),
        _metadata({**_ARGON, "time": 4.0}),
        _metadata({"type": "argon2id", "memory": 32, "cpus": 1}),
        _metadata({**_ARGON, "memory": 4194305}),
        _metadata({**_ARGON, "cpus": 5}),
        _metadata({**_ARGON, "time": 4096}),
        _metadata({"type": "pbkdf2", "iterations": 2**31 - 1}),
        _metadata(_ARGON, iterations=2**31 - 1),
        _metadata(_ARGON, stripes=2**31 - 1),
    ],
)
def test_costs_outside_the_bounds_are_refused(metadata: dict[str, Any]) -> None:
    """Too much of any cost, or no number at all, is refused; another slot's costs do not matter to a slot."""
    with pytest.raises(KdfOutOfBounds):
        KdfBounds().check(metadata, 3, "disk")
    with pytest.raises(KdfOutOfBounds):
        KdfBounds().check(metadata, None, "disk")
