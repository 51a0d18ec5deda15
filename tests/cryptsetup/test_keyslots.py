"""Keyslots are added, changed, listed and destroyed."""

from __future__ import annotations

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.kdf import Kdf, Pbkdf2Cost
from luksctl.cryptsetup.keyslots import KeyslotStatus, Priority
from luksctl.errors import CryptsetupError, SlotPassphraseRejected
from luksctl.model.config import CHEAPEST_KDF, KdfCost
from luksctl.secret import Secret


@pytest.mark.parametrize(
    ("kdf", "expected"),
    [
        (CHEAPEST_KDF, {"type": "argon2id", "time": 4, "memory": 32, "cpus": 1}),
        (KdfCost(time=5, memory_kib=64, threads=1), {"type": "argon2id", "time": 5, "memory": 64, "cpus": 1}),
        (Pbkdf2Cost(1000), {"type": "pbkdf2", "hash": "sha256", "iterations": 1000}),
        (Pbkdf2Cost(1001, "sha512"), {"type": "pbkdf2", "hash": "sha512", "iterations": 1001}),
    ],
)
def test_keyslot_costs_what_was_asked_for(
    volume: str, other_key: Secret, volume_key: Secret, kdf: Kdf, expected: dict[str, object]
) -> None:
    """The costs in the header are those that were given: nothing is benchmarked."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(5, other_key, volume_key, kdf)
    with Device.open(volume) as device:
        found = device.keyslots.json(5)["kdf"]
    assert {name: found[name] for name in expected} == expected


def test_add_by_passphrase_makes_a_second_way_in(volume: str, key: Secret, other_key: Secret) -> None:
    """A key that opens lets another one in, at the first free slot when none is named."""
    with Device.open(volume) as device:
        assert device.keyslots.add_by_passphrase(None, other_key, key, CHEAPEST_KDF) == 1
        assert device.keyslots.numbers() == (0, 1)
        assert device.test_key(other_key, slot=1) == 1


def test_add_with_a_wrong_key_adds_nothing(volume: str, other_key: Secret) -> None:
    """A key that opens nothing lets nobody in."""
    with Device.open(volume) as device, pytest.raises(SlotPassphraseRejected):
        device.keyslots.add_by_passphrase(3, other_key, other_key, CHEAPEST_KDF)
    with Device.open(volume) as device:
        assert device.keyslots.numbers() == (0,)


def test_slot_in_use_is_not_overwritten(volume: str, key: Secret, other_key: Secret, volume_key: Secret) -> None:
    """Adding to a used slot fails and leaves its key as it was."""
    with Device.open(volume) as device:
        with pytest.raises(CryptsetupError):
            device.keyslots.add_by_volume_key(0, other_key, volume_key, CHEAPEST_KDF)
        assert device.test_key(key, slot=0) == 0


def test_change_moves_the_key(volume: str, key: Secret, other_key: Secret) -> None:
    """After a change into another slot the old one is gone and the old key opens nothing."""
    with Device.open(volume) as device:
        assert device.keyslots.change(0, 4, key, other_key, CHEAPEST_KDF) == 4
        assert device.keyslots.numbers() == (4,)
        with pytest.raises(SlotPassphraseRejected):
            device.test_key(key)


def test_destroyed_slot_opens_no_more(volume: str, key: Secret, other_key: Secret, volume_key: Secret) -> None:
    """A destroyed slot is free, and its key opens nothing."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(1, other_key, volume_key, CHEAPEST_KDF)
        assert device.keyslots.status(1) is KeyslotStatus.ACTIVE
        device.keyslots.destroy(0)
        assert device.keyslots.status(0) is KeyslotStatus.INACTIVE
        assert device.keyslots.status(1) is KeyslotStatus.ACTIVE_LAST
        assert device.keyslots.numbers() == (1,)
        with pytest.raises(SlotPassphraseRejected):
            device.test_key(key)


def test_priority_ignore_keeps_a_slot_out_of_the_search(volume: str, key: Secret) -> None:
    """A slot with priority IGNORE opens by number only."""
    with Device.open(volume) as device:
        assert device.keyslots.priority(0) is Priority.NORMAL
        assert device.keyslots.priority(9) is Priority.INVALID
        device.keyslots.set_priority(0, Priority.IGNORE)
    with Device.open(volume) as device:
        assert device.keyslots.priority(0) is Priority.IGNORE
        with pytest.raises(CryptsetupError):
            device.test_key(key)
        assert device.test_key(key, slot=0) == 0


def test_unbound_slot_opens_no_data(volume: str, other_key: Secret) -> None:
    """A keyslot for another key than the volume's is marked unbound and does not open the volume."""
    with Device.open(volume) as device, Secret.random(64) as stored:
        assert device.keyslots.add_unbound(2, other_key, stored, CHEAPEST_KDF) == 2
        assert device.keyslots.status(2) is KeyslotStatus.UNBOUND
        with pytest.raises(CryptsetupError):
            device.test_key(other_key, slot=2)
