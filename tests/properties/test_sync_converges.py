"""From any keys to any keys, with the power cut at any write: the next boot opens, and ends with the config's slots."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.errors import Degraded, ProviderUnavailable
from luksctl.model.config import STATE, ConfiguredKey, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import Token
from luksctl.reconcile.books import unverified
from luksctl.value import replace
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import encrypted, kms, node_id, static
from tests.reconcile.world import World, wish

SLOTS = (0, 1, 2, 30, 31)


@st.composite
def key_lists(draw: st.DrawFn) -> VolumeEncryption:
    """Draw one to four keys in different slots; a kms key is random, the others are the same wherever they are made."""
    slots = draw(st.lists(st.sampled_from(SLOTS), min_size=1, max_size=4, unique=True))
    return encrypted(*(draw(_keys(slot)) for slot in sorted(slots)))


def _keys(slot: int) -> st.SearchStrategy[ConfiguredKey]:
    passphrases = st.sampled_from([b"one", b"two", b"three"])
    return st.one_of(passphrases.map(lambda phrase: static(slot, phrase)), st.just(node_id(slot)), st.just(kms(slot)))


def following(new: VolumeEncryption, *old: VolumeEncryption) -> DesiredVolume:
    """Return the wish that STATE's own config makes of it."""
    return replace(wish(new), sync=True, follow_in_meta=True, fallback=old)


def formatted(keys: VolumeEncryption) -> World:
    """Return a world whose STATE was formatted with `keys`, after a reboot."""
    world = World()
    world.converge(wish(keys))
    world.reboot()
    return world


def boot(world: World, new: VolumeEncryption) -> None:
    """Boot as a node does: STATE opens by META's list, then follows its own config; META's list is to fall back to."""
    in_meta = world.meta.facts().state_encryption
    assert in_meta is not None
    world.converge(wish(in_meta))
    world.converge(following(new, in_meta))


def assert_in_sync(world: World, keys: VolumeEncryption) -> None:
    """Check that the slots are those of the config and no others, and that nothing is announced any more."""
    header = world.medium.copies().best
    assert header is not None
    assert {slot.number for slot in header.keyslots} == {key.slot for key in keys.keys}
    books = unverified(header)
    assert books is not None
    assert books.underway == ()
    assert {note.slot for note in books.notes} == {key.slot for key in keys.keys}
    assert world.meta.facts().state_encryption == keys
    for key in keys.keys:
        alone = World(keys=world.keys)
        alone.medium, alone.meta = world.medium, world.meta
        alone.converge(wish(encrypted(key)))  # opens with this key and slot, or raises Locked


@settings(max_examples=150, deadline=None)
@given(key_lists(), key_lists())
def test_the_header_follows_and_then_nothing_is_written(old: VolumeEncryption, new: VolumeEncryption) -> None:
    """One run is enough; a second one writes nothing, and runs one key derivation."""
    world = formatted(old)
    boot(world, new)
    assert_in_sync(world, new)
    world.reboot()
    writes = len(world.power.writes)
    world.calls.clear()
    world.converge(replace(wish(new), sync=True))
    assert len(world.power.writes) == writes
    tries = [call for call in world.calls if call.startswith(("volume_key", "test_key"))]
    slots = {call.split()[1] for call in tries}
    assert len(slots) == 1  # the candidates of one key at one slot


@settings(max_examples=60, deadline=None)
@given(key_lists(), key_lists(), st.data())
def test_a_cut_anywhere_is_healed_by_the_next_boot(
    old: VolumeEncryption, new: VolumeEncryption, data: st.DataObject
) -> None:
    """Cut at any write, boot, cut again, boot: the volume always opens, and ends in sync by itself."""
    world = formatted(old)
    for _ in range(data.draw(st.integers(1, 3), label="cuts")):
        world.power.cut_at = data.draw(st.integers(1, 160), label="cut at")
        with suppress(PowerCut):
            boot(world, new)
        world.reboot()
    boot(world, new)
    assert_in_sync(world, new)


@settings(max_examples=60, deadline=None)
@given(key_lists(), key_lists(), st.sets(st.sampled_from(SLOTS)), st.sets(st.sampled_from(SLOTS)))
def test_a_provider_that_fails_takes_no_way_in(
    old: VolumeEncryption, new: VolumeEncryption, unmade: set[int], lost: set[int]
) -> None:
    """Keys that cannot be made or recovered leave the slots that worked; when they come back, all is in sync."""
    world = formatted(old)
    world.keys.make_down = set(unmade)
    world.keys.recovers_before_down = dict.fromkeys(lost, 3)
    with suppress(Degraded, ProviderUnavailable):
        world.converge(following(new, old))
    world.keys.make_down, world.keys.recovers_before_down = set(), {}
    world.reboot()
    boot(world, new)
    assert_in_sync(world, new)


@settings(max_examples=60, deadline=None)
@given(key_lists(), key_lists())
def test_slots_of_others_stay(old: VolumeEncryption, new: VolumeEncryption) -> None:
    """A slot that luksctl did not make is kept, and never taken for a configured one."""
    world = formatted(old)
    header = world.medium.copies().best
    assert header is not None
    foreign = next(number for number in range(10, 20))
    made = replace(header.keyslots[0], number=foreign)
    token = Token(foreign, "clevis", (foreign,), '{"type":"clevis","keyslots":["10"]}')
    world.medium.change(
        replace(header, keyslots=(*header.keyslots, made), tokens=(*header.tokens, token), seqid=header.seqid + 1)
    )
    with suppress(Degraded):
        boot(world, new)
    after = world.medium.copies().best
    assert after is not None
    assert after.keyslot(foreign) == made
    assert after.token(foreign) == token
    assert {slot.number for slot in after.keyslots} == {foreign} | {key.slot for key in new.keys}
    assert STATE in world.meta.facts().record.encrypted


@settings(max_examples=60, deadline=None)
@given(key_lists(), key_lists())
def test_without_fingerprints_every_slot_is_tried(old: VolumeEncryption, new: VolumeEncryption) -> None:
    """The header says nothing about such keys; it follows all the same, and then no byte is written."""
    world = formatted(old)
    desired = following(new, old)
    policy = replace(desired.policy, unfingerprinted=("static", "nodeID", "kms"))
    world.converge(replace(desired, policy=policy))
    header = world.medium.copies().best
    assert header is not None
    books = unverified(header)
    assert books is not None
    assert all(note.fingerprint is None for note in books.notes)
    world.reboot()
    writes = len(world.power.writes)
    world.calls.clear()
    world.converge(replace(desired, policy=policy))
    assert len(world.power.writes) == writes
    slots = {call.split()[1] for call in world.calls if call.startswith(("volume_key", "test_key"))}
    assert slots >= {str(key.slot) for key in new.keys if key.kind != "kms"}
