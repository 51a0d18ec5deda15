"""Fresh keys for slots whose provider makes keys: the old one opens until the new one does, whenever the power goes."""

from __future__ import annotations

import pytest

from luksctl.errors import Degraded, LuksctlError, ProviderUnavailable, Refused
from luksctl.model.config import CHEAPEST_KDF, EncryptionPolicy, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.step import MakeKey
from luksctl.reconcile.books import unverified
from luksctl.reconcile.rotation import rotate
from luksctl.value import replace
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.world import SETTINGS, World, wish

KEYS = encrypted(static(0, b"one"), kms(1), kms(4))
ONLY = encrypted(kms(1))


def following(keys: VolumeEncryption, *slots: int) -> DesiredVolume:
    """Return the wish of STATE's own config, with `slots` to be rotated."""
    return replace(wish(keys), sync=True, follow_in_meta=True, rotate=slots)


def formatted(keys: VolumeEncryption = KEYS) -> World:
    """Return a running world whose STATE was formatted with `keys`."""
    world = World()
    world.converge(wish(keys, policy=EncryptionPolicy(kdf=CHEAPEST_KDF, talos_readable=False)))  # 30 keys fit
    return world


def turn(world: World, keys: VolumeEncryption, *slots: int) -> list[str]:
    """Rotate, and return the names of the steps."""
    return [type(done.step).__name__ for done in rotate(following(keys, *slots), SETTINGS, world.ports)]


def keys_of(world: World) -> dict[int, bytes]:
    """Return which key opens which slot that the header lists."""
    header = world.medium.copies().best
    assert header is not None
    return {slot.number: world.medium.areas[slot.number].key for slot in header.keyslots}


def assert_in_sync(world: World, keys: VolumeEncryption) -> None:
    """Check that each key opens its slot alone, nothing is announced, and a sync writes nothing."""
    header = world.medium.copies().best
    assert header is not None
    books = unverified(header)
    assert books is not None
    assert books.underway == ()
    assert {slot.number for slot in header.keyslots} == {key.slot for key in keys.keys}
    for key in keys.keys:
        world.reboot()
        world.converge(wish(encrypted(key)))
    writes = len(world.power.writes)
    world.converge(following(keys))
    assert len(world.power.writes) == writes


@pytest.mark.parametrize("slots", [(1,), (4,), (1, 4)])
def test_the_named_slots_get_new_keys_and_the_others_stay(slots: tuple[int, ...]) -> None:
    """What was in the slot opens nothing any more."""
    world = formatted()
    before = keys_of(world)
    assert turn(world, KEYS, *slots).count(MakeKey.__name__) == len(slots)
    after = keys_of(world)
    assert {slot for slot in after if after[slot] != before[slot]} == set(slots)
    assert not {before[slot] for slot in slots} & {area.key for area in world.medium.areas.values()}
    assert_in_sync(world, KEYS)


def test_an_only_key_is_rotated() -> None:
    """It unlocks first, and the spare vouches for it in between."""
    world = formatted(ONLY)
    before = keys_of(world)
    turn(world, ONLY, 1)
    assert keys_of(world)[1] != before[1]
    assert_in_sync(world, ONLY)
    assert world.keys.left_open() == 0


@pytest.mark.parametrize("keys", [KEYS, ONLY], ids=["with others", "the only one"])
def test_a_cut_anywhere_leaves_the_old_key_or_the_new_one(keys: VolumeEncryption) -> None:
    """The next boot opens, ends in sync, and nothing is left of the other key."""
    whole = formatted(keys)
    before = len(whole.power.writes)
    turn(whole, keys, 1)
    ended: set[bool] = set()
    for cut_at in range(1, len(whole.power.writes) - before + 1):
        world = formatted(keys)
        old = keys_of(world)[1]
        world.reboot()
        world.power.cut_at = cut_at
        with pytest.raises(PowerCut):
            turn(world, keys, 1)
        world.reboot()
        world.converge(wish(keys))
        world.converge(following(keys))
        assert_in_sync(world, keys)
        ended.add(keys_of(world)[1] == old)
        assert keys_of(world)[1] == old or old not in {area.key for area in world.medium.areas.values()}
    assert ended == {True, False}


def test_a_provider_that_makes_no_key_leaves_the_one_there_is() -> None:
    """It is told, and the slot still opens with what it had."""
    world = formatted()
    before = keys_of(world)
    world.keys.make_down.add(1)
    with pytest.raises(Degraded, match="slot 1 kept the key it had: dial kms"):
        turn(world, KEYS, 1)
    assert keys_of(world) == before
    assert_in_sync(world, KEYS)


def test_a_key_that_does_not_come_back_is_not_used() -> None:
    """Recovered wrongly once it is in its spare: the old slot stays, and the spare goes."""
    world = formatted()
    before = keys_of(world)
    world.after["add_keyslot 30"] = lambda: world.keys.wrong_after.update({1: 0})
    with pytest.raises(LuksctlError):
        turn(world, KEYS, 1)
    assert keys_of(world)[1] == before[1]
    world.after.clear()
    world.keys.wrong_after.clear()
    world.reboot()
    world.converge(wish(KEYS))
    world.converge(following(KEYS))
    assert keys_of(world) == before
    assert_in_sync(world, KEYS)


def test_without_a_key_to_unlock_nothing_is_written() -> None:
    """The kernel gives no volume key back."""
    world = formatted(ONLY)
    world.keys.recovers_before_down[1] = 0
    writes = len(world.power.writes)
    with pytest.raises(ProviderUnavailable):
        turn(world, ONLY, 1)
    assert len(world.power.writes) == writes


def test_a_volume_of_others_is_refused() -> None:
    """The hint says how to take it over."""
    world = formatted()
    header = world.medium.copies().best
    assert header is not None
    others = tuple(token for token in header.tokens if token.type != "luksctl")
    world.medium.change(replace(header, tokens=others, seqid=header.seqid + 1))
    writes = len(world.power.writes)
    with pytest.raises(Refused) as caught:
        turn(world, KEYS, 1)
    assert caught.value.hint == "luksctl adopt STATE"
    assert len(world.power.writes) == writes


def test_a_volume_without_a_free_slot_says_so() -> None:
    """A change needs a spare."""
    keys = encrypted(*(static(slot) for slot in range(29)), kms(29))
    world = formatted(keys)
    header = world.medium.copies().best
    assert header is not None
    foreign = replace(header.keyslots[0], number=30)
    world.medium.change(replace(header, keyslots=(*header.keyslots, foreign), seqid=header.seqid + 1))
    with pytest.raises(Degraded, match="slot 29"):
        turn(world, keys, 29)
