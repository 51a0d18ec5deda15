"""Recovery keyslots: they stay through every sync, and a cut leaves no slot that nobody knows of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from luksctl.errors import CryptsetupError, Degraded, KeyRejected, LuksctlError, ProviderUnavailable, Refused
from luksctl.model.bookkeeping import Bookkeeping, Purpose
from luksctl.model.config import CHEAPEST_KDF, EncryptionPolicy, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import LuksHeader
from luksctl.reconcile.books import unverified
from luksctl.reconcile.recovery import keys_to_try, recovery_session, recovery_slots, slot_opened_by
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.medium import Area, PowerCut
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.world import DEVICE, SETTINGS, World, wish

HELD = b"what stands on the sheet"
KEYS = encrypted(static(0, b"one"), kms(1))


def following(new: VolumeEncryption, *old: VolumeEncryption) -> DesiredVolume:
    """Return the wish that STATE's own config makes of it."""
    return replace(wish(new), sync=True, follow_in_meta=True, fallback=old)


def formatted(keys: VolumeEncryption = KEYS) -> World:
    """Return a running world whose STATE was formatted with `keys`."""
    world = World()
    world.converge(wish(keys, policy=EncryptionPolicy(kdf=CHEAPEST_KDF, talos_readable=False)))  # 30 keys fit
    return world


def add(world: World, wanted: DesiredVolume, key: bytes = HELD) -> int:
    """Add a recovery key, and return its slot."""
    with recovery_session(wanted, SETTINGS, world.ports) as running, Secret.take(key) as held:
        list(running.unlock())
        slot = running.free_slot()
        list(running.add(slot, held))
        return slot


def remove(world: World, wanted: DesiredVolume, slot: int) -> None:
    """Remove the recovery key in `slot`."""
    with recovery_session(wanted, SETTINGS, world.ports) as running:
        list(running.unlock())
        list(running.remove(slot))


def header_of(world: World) -> LuksHeader:
    """Return the header."""
    found = world.medium.copies().best
    assert found is not None
    return found


def books_of(world: World) -> Bookkeeping:
    """Return the bookkeeping."""
    books = unverified(header_of(world))
    assert books is not None
    return books


def opens(world: World, slot: int, key: bytes = HELD) -> bool:
    """Tell whether `key` opens `slot`."""
    header = header_of(world)
    with Secret.take(key) as held:
        try:
            world.ports.headers.test_key(DEVICE, slot, held)
        except CryptsetupError:
            return False
    return header.keyslot(slot) is not None


def numbers(world: World) -> set[int]:
    """Return the numbers of the keyslots."""
    return {slot.number for slot in header_of(world).keyslots}


def boot(world: World, keys: VolumeEncryption = KEYS) -> None:
    """Reboot, and boot as a node with this config does."""
    world.reboot()
    before = world.meta.facts().state_encryption
    assert before is not None
    world.converge(wish(before))
    world.converge(following(keys, before))


def test_it_takes_the_highest_free_slot_and_is_noted() -> None:
    """Below the bookkeeping token's number and what is configured; the cheapest key derivation is enough."""
    world = formatted(encrypted(static(0), static(30)))
    assert add(world, following(encrypted(static(0), static(30)))) == 29
    slot = header_of(world).keyslot(29)
    assert slot is not None
    assert (slot.time, slot.memory_kib) == (CHEAPEST_KDF.time, CHEAPEST_KDF.memory_kib)
    note = books_of(world).note(29)
    assert note is not None
    assert note.purpose is Purpose.RECOVERY
    assert books_of(world).underway == ()
    assert opens(world, 29)
    assert recovery_slots(header_of(world)) == (29,)


def test_it_stays_through_syncs_and_costs_a_boot_nothing() -> None:
    """Not in the config, and neither removed nor tried; also when every configured key is exchanged, with prune."""
    world = formatted()
    slot = add(world, following(KEYS))
    writes = len(world.power.writes)
    world.converge(following(KEYS))
    assert len(world.power.writes) == writes
    new = encrypted(static(5, b"new"))
    boot(world, new)
    pruning = replace(following(new), policy=replace(wish(new).policy, prune=True))
    world.converge(pruning)
    assert numbers(world) == {5, slot}
    assert opens(world, slot)


def test_one_after_the_other() -> None:
    """Each gets a slot of its own; what is removed is gone, and the others stay."""
    world = formatted()
    first, second = add(world, following(KEYS), b"first"), add(world, following(KEYS), b"second")
    assert (first, second) == (30, 29)
    remove(world, following(KEYS), first)
    assert numbers(world) == {0, 1, second}
    assert opens(world, second, b"second")
    assert [note.slot for note in books_of(world).notes] == [0, 1, second]
    assert books_of(world).underway == ()


def writes_of(act: Callable[[World], object], world: World) -> int:
    """Count the writes of `act`."""
    before = len(world.power.writes)
    act(world)
    return len(world.power.writes) - before


def cut_everywhere(act: Callable[[World], object], prepare: Callable[[World], object]) -> Iterator[World]:
    """Yield a world for each write of `act`, cut just before that write, and booted."""
    whole = formatted()
    prepare(whole)
    for cut_at in range(1, writes_of(act, whole) + 1):
        world = formatted()
        prepare(world)
        world.reboot()
        world.power.cut_at = cut_at
        with pytest.raises(PowerCut):
            act(world)
        boot(world)
        yield world


def adding(world: World) -> None:
    """Add the key of these tests."""
    add(world, following(KEYS))


def assert_every_slot_is_known(world: World) -> None:
    """Check that each slot is a configured one or a recovery key that opens, and that nothing is announced."""
    assert books_of(world).underway == ()
    assert {note.slot for note in books_of(world).notes} == numbers(world)
    assert numbers(world) == {0, 1, *recovery_slots(header_of(world))}
    assert all(opens(world, slot) for slot in recovery_slots(header_of(world)))
    assert opens(world, 0, b"one")


def test_a_cut_while_adding_leaves_no_orphan() -> None:
    """Whichever write: after the next boot the slot is there, noted and opening, or not at all; and it can be added."""
    found = set()
    for world in cut_everywhere(adding, lambda _: None):
        assert_every_slot_is_known(world)
        found.add(len(numbers(world)))
        slot = add(world, following(KEYS), b"another")
        assert opens(world, slot, b"another")
    assert found == {2, 3}


def test_a_cut_while_removing_leaves_it_whole_or_gone() -> None:
    """A dead slot is never listed as a recovery key: the next boot takes it away."""
    found = set()
    for world in cut_everywhere(lambda world: remove(world, following(KEYS), 30), adding):
        assert_every_slot_is_known(world)
        found.add(len(numbers(world)))
    assert found == {2, 3}


def refused(world: World, wanted: DesiredVolume, because: str, kind: type[LuksctlError] = Refused) -> LuksctlError:
    """Check that adding is refused and that nothing was written."""
    writes = len(world.power.writes)
    with pytest.raises(kind, match=because) as caught:
        add(world, wanted)
    assert len(world.power.writes) == writes
    assert caught.value.hint is not None
    return caught.value


def test_a_volume_of_others_is_refused_before_any_key_is_asked_for() -> None:
    """Without bookkeeping the next sync would not know the slot; the hint says how to take the volume over."""
    world = formatted()
    others = tuple(token for token in header_of(world).tokens if token.type != "luksctl")
    world.medium.change(replace(header_of(world), tokens=others, seqid=99))
    world.calls.clear()
    error = refused(world, following(KEYS), "luksctl does not manage its keyslots")
    assert error.hint == "luksctl adopt STATE"
    assert not any(call.startswith("volume_key") for call in world.calls)


def test_bookkeeping_that_does_not_verify_is_refused() -> None:
    """Somebody without the volume key wrote it, so nothing is built on it."""
    world = formatted()
    header = header_of(world)
    ours = next(token for token in header.tokens if token.type == "luksctl")
    forged = replace(ours, json=ours.json.replace('"counter":1', '"counter":7'))
    assert forged != ours
    rest = tuple(token for token in header.tokens if token != ours)
    world.medium.change(replace(header, tokens=(*rest, forged), seqid=99))
    assert refused(world, following(KEYS), "does not verify").hint == "luksctl adopt STATE"


def test_more_keys_than_the_bookkeeping_has_room_for_are_refused() -> None:
    """31 configured keys leave no token id, and 30 leave only the one spare that changes need."""
    world = formatted(encrypted(*(static(slot) for slot in range(31))))
    refused(world, following(encrypted(*(static(slot) for slot in range(31)))), "31 configured keys leave no room")
    world = formatted(encrypted(*(static(slot) for slot in range(30))))
    refused(world, following(encrypted(*(static(slot) for slot in range(30)))), "one must stay free")


def test_a_volume_that_is_wanted_plain_is_refused() -> None:
    """The plan's own refusal says why."""
    refused(formatted(), replace(following(KEYS), encryption=None), "the config asks for no encryption")


def test_copies_that_differ_are_mended_first() -> None:
    """No keyslot is written while the header's copies do not agree."""
    world = formatted()
    world.medium.second = replace(header_of(world), seqid=1)
    error = refused(world, following(KEYS), "its header copies do not agree")
    assert error.hint == "luksctl boot STATE"


def test_keys_that_cannot_be_recovered_write_nothing() -> None:
    """The kernel gives no volume key back: without a provider there is none."""
    world = formatted()
    world.keys.recovers_before_down = {0: 0, 1: 0}
    refused(world, following(KEYS), "refused", ProviderUnavailable)


def test_a_key_that_does_not_prove_is_told_and_cleaned_up_by_the_next_sync() -> None:
    """The announced slot is ours, so it does not stay."""
    world = formatted()
    world.after["add_keyslot 30"] = lambda: world.keys.wrong_after.update({30: 0})
    with pytest.raises(Degraded, match="the recovery key was not added"):
        add(world, following(KEYS))
    assert recovery_slots(header_of(world)) == ()
    assert 30 in numbers(world)
    boot(world)
    assert numbers(world) == {0, 1}


def test_only_recovery_keys_are_removed() -> None:
    """Configured slots and those of others are not; neither is anything where only an earlier key opens."""
    world = formatted()
    slot = add(world, following(KEYS))
    for other in (0, 17):
        with pytest.raises(Refused, match="no recovery key"):
            remove(world, following(KEYS), other)
    with pytest.raises(Refused, match="no key of the config"):
        remove(world, following(encrypted(static(7, b"new")), KEYS), slot)
    assert numbers(world) == {0, 1, slot}


def somebody_else(world: World, slot: int) -> None:
    """Put another key into the slot, as another tool would, whatever was there."""
    header = header_of(world)
    others = tuple(other for other in header.keyslots if other.number != slot)
    theirs = replace(header.keyslots[0], number=slot, time=77)
    world.medium.areas[slot] = Area(b"theirs", world.medium.digest_key)
    world.medium.change(replace(header, keyslots=(*others, theirs), seqid=header.seqid + 1))


def test_a_slot_that_somebody_takes_meanwhile_stays_theirs() -> None:
    """Between the announcement and the writing: nothing is added, and no sync takes their slot away."""
    world = formatted()
    world.after["write_token 31"] = lambda: world.after.update({"header_copies /dev/sda3": once})

    def once() -> None:
        world.after.clear()
        somebody_else(world, 30)

    with pytest.raises(Degraded, match="somebody else"):
        add(world, following(KEYS))
    boot(world)
    assert opens(world, 30, b"theirs")
    assert recovery_slots(header_of(world)) == ()


def test_a_slot_that_somebody_changes_before_it_is_removed_stays_theirs() -> None:
    """It is refused, and forgotten: what is there now is not ours to take away, also not by the next sync."""
    world = formatted()
    slot = add(world, following(KEYS))

    def once() -> None:
        world.after.clear()
        somebody_else(world, slot)

    world.after["write_token 31"] = lambda: world.after.update({"header_copies /dev/sda3": once})
    with pytest.raises(Refused, match="somebody else changed the keyslot"):
        remove(world, following(KEYS), slot)
    boot(world)
    assert opens(world, slot, b"theirs")
    assert recovery_slots(header_of(world)) == ()


def test_what_another_tool_removed_is_forgotten() -> None:
    """Somebody killed the slot by hand; removing it takes out the note."""
    world = formatted()
    slot = add(world, following(KEYS))
    world.ports.headers.remove_keyslot(DEVICE, slot)
    remove(world, following(KEYS), slot)
    assert [note.slot for note in books_of(world).notes] == [0, 1]


def test_a_configured_key_does_not_take_the_slot_of_a_recovery_key() -> None:
    """The config may come to name its number: that key is blocked, and the recovery key stays."""
    world = formatted()
    slot = add(world, following(KEYS))
    new = encrypted(*KEYS.keys, static(slot, b"new"))
    with pytest.raises(Degraded, match="holds a recovery key"):
        world.converge(following(new, KEYS))
    assert opens(world, slot)
    assert recovery_slots(header_of(world)) == (slot,)


def test_removing_leaves_secrets_wiped_and_locks_released() -> None:
    """The run ends with nothing in memory and nothing held."""
    world = formatted()
    remove(world, following(KEYS), add(world, following(KEYS)))
    assert world.keys.left_open() == 0
    assert world.held == []


def test_listed_slots_are_tried_first_and_all_others_then() -> None:
    """Bookkeeping that was lost does not lock out who holds a key; slots that cannot be tried are passed over."""
    world = formatted()
    slot = add(world, following(KEYS))
    with Secret.take(HELD) as held, Secret.take(b"nothing of this volume") as wrong:
        first, rest = keys_to_try(header_of(world), held)
        assert ([key.slot for key in first.keys], [key.slot for key in rest.keys]) == ([slot], [0, 1])
        world.calls.clear()
        assert slot_opened_by(world.ports, DEVICE, header_of(world), held) == slot
        assert [call for call in world.calls if call.startswith("test_key")] == [f"test_key {slot}"]
        bare = replace(header_of(world), tokens=())
        assert slot_opened_by(world.ports, DEVICE, bare, held) == slot
        world.fail["test_key 0"] = CryptsetupError("not enough memory", errno=12)
        assert slot_opened_by(world.ports, DEVICE, bare, held) == slot
        with pytest.raises(CryptsetupError, match="not enough memory"):
            slot_opened_by(world.ports, DEVICE, bare, wrong)
        del world.fail["test_key 0"]
        with pytest.raises(KeyRejected, match="opens no keyslot"):
            slot_opened_by(world.ports, DEVICE, bare, wrong)
