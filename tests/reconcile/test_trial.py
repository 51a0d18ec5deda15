"""Keys on trial are only added: whatever happens next, the config before or the one on trial opens the volume."""

from __future__ import annotations

import pytest

from luksctl.errors import Degraded, Locked
from luksctl.model.config import ConfiguredKey, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.destroys import Destroys
from luksctl.model.header import LuksHeader
from luksctl.model.step import Done
from luksctl.reconcile.books import unverified
from luksctl.value import replace
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import encrypted, kms, node_id, static
from tests.reconcile.world import World, wish

OLD = encrypted(static(0, b"first"), node_id(1), static(4, b"fourth"))
NEW = encrypted(static(0, b"changed"), node_id(1), static(2, b"added"), static(5, b"fourth"), kms(6))


def follows(keys: VolumeEncryption, *, before: VolumeEncryption | None = None, trial: bool = False) -> DesiredVolume:
    """Return a wish whose keyslots follow."""
    fallback = () if before is None else (before,)
    return replace(wish(keys), sync=True, follow_in_meta=True, fallback=fallback, trial=trial)


def tried(world: World) -> list[Done]:
    """Try the new keys on a node that is up."""
    return world.converge(follows(NEW, before=OLD, trial=True))


def header(world: World) -> LuksHeader:
    """Return the header as it is."""
    found = world.medium.copies().best
    assert found is not None
    return found


def slots(world: World) -> set[int]:
    """Return the keyslots."""
    return {slot.number for slot in header(world).keyslots}


def opens(world: World, key: ConfiguredKey) -> bool:
    """Tell whether this key alone opens its slot after a reboot."""
    world.reboot()
    try:
        world.converge(replace(wish(encrypted(key)), sync=False))
    except Locked:
        return False
    return True


def started() -> World:
    """Return a node that runs by the old keys."""
    world = World()
    world.converge(follows(OLD))
    world.reboot()
    world.converge(follows(OLD))
    return world


def test_a_trial_destroys_nothing_and_meta_keeps_the_old_list() -> None:
    """New keys are in free slots and spares, each proven; the old ones are where they were."""
    world = started()
    meta = world.meta.facts().state_encryption
    steps = tried(world)
    assert all(done.step.destroys is Destroys.NOTHING for done in steps)
    assert not any(done.skipped for done in steps)
    assert slots(world) >= {0, 1, 2, 4, 5, 6}
    assert len(slots(world)) == 7
    assert world.meta.facts().state_encryption == meta
    writes = len(world.power.writes)
    tried(world)
    assert len(world.power.writes) == writes


@pytest.mark.parametrize("reboot", [False, True])
def test_a_trial_that_is_taken_back_leaves_what_was_before(*, reboot: bool) -> None:
    """Silence or a reboot: a sync by the config that is stored does it."""
    world = started()
    before = slots(world)
    tried(world)
    if reboot:
        world.reboot()
    world.converge(follows(OLD))
    assert slots(world) == before
    assert _announced(world) == ()
    assert opens(world, OLD.keys[0])
    assert not opens(world, NEW.keys[0])


@pytest.mark.parametrize("reboot", [False, True])
def test_a_trial_that_is_confirmed_ends_as_if_it_had_been_applied(*, reboot: bool) -> None:
    """The keys that were made and proven are moved from their spares to their slots."""
    world = started()
    tried(world)
    if reboot:
        world.reboot()
    world.converge(follows(NEW, before=OLD))
    assert slots(world) == {0, 1, 2, 5, 6}
    assert _announced(world) == ()
    assert world.meta.facts().state_encryption == NEW
    assert opens(world, NEW.keys[0])
    assert not opens(world, OLD.keys[0])


def test_power_may_go_at_every_write_of_a_trial() -> None:
    """The old config's boot takes back what was begun."""
    world = started()
    before = len(world.power.writes)
    tried(world)
    for cut in range(1, len(world.power.writes) - before + 1):
        world = started()
        world.power.cut_at = len(world.power.writes) + cut
        with pytest.raises(PowerCut):
            tried(world)
        world.reboot()
        world.converge(follows(OLD))
        assert slots(world) == {0, 1, 4}, cut
        assert _announced(world) == (), cut
        world.reboot()
        world.converge(follows(OLD))
        assert world.power.writes == [], cut


def test_more_keys_than_bookkeeping_has_room_for_cannot_be_tried() -> None:
    """Nobody could say afterwards what to take back."""
    many = encrypted(*(node_id(slot) for slot in range(31)))
    world = started()
    before = slots(world)
    with pytest.raises(Degraded, match="apply it without trial"):
        world.converge(follows(many, before=OLD, trial=True))
    assert slots(world) == before


def _announced(world: World) -> tuple[object, ...]:
    found = unverified(header(world))
    assert found is not None
    return found.underway
