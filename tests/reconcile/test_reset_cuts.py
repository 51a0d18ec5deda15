"""The power is cut at every write of a reset, in turn, and of the format after it: nothing of before comes back."""

from __future__ import annotations

import pytest

from luksctl.errors import NeedsReboot
from luksctl.model.config import STATE
from luksctl.model.intent import EraseMethod, ResetIntent
from luksctl.model.observed import Erasing, Luks2
from luksctl.reconcile.converge import session
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.world import PARTUUID, SETTINGS, World, wish

BEFORE, AFTER = wish(encrypted(static(0, b"old"), kms(3))), wish(encrypted(static(5, b"new")))


def announced(method: EraseMethod) -> World:
    """Return a world whose STATE was formatted, opened and closed, and is announced to be erased."""
    world = World()
    world.converge(BEFORE)
    world.reboot()
    record = world.meta.facts().record
    world.meta.set_record(record.with_intent(ResetIntent(STATE, PARTUUID, method)))
    world.calls.clear()
    return world


def boot(world: World, cut_at: int | None = None) -> None:
    """Boot with the config that comes after the reset; the power may go at the n-th write."""
    world.reboot()
    world.power.cut_at = cut_at
    try:
        world.converge(AFTER)
    except PowerCut:
        return


def assert_new(world: World, old_uuid: str) -> None:
    """Check that the volume is the new one, and that META says so."""
    observed, facts = world.observe(), world.meta.facts()
    assert isinstance(observed, Luks2)
    assert observed.header.uuid != old_uuid
    assert {slot.number for slot in observed.header.keyslots} == {5}
    assert facts.record.intents == ()
    assert facts.state_encryption == AFTER.encryption


@pytest.mark.parametrize("method", EraseMethod)
def test_a_cut_at_any_write_ends_in_the_new_volume(method: EraseMethod) -> None:
    """As long as the reset is announced nothing is activated, tried or mended; one more boot ends it and formats."""
    whole = announced(method)
    (old,) = [whole.medium.copies().best]
    assert old is not None
    boot(whole)
    writes = len(whole.power.writes)
    assert_new(whole, old.uuid)
    for cut_at in range(1, writes + 1):
        world = announced(method)
        (found,) = [world.medium.copies().best]
        assert found is not None
        boot(world, cut_at)
        still = bool(world.meta.facts().record.resets)
        if still:
            touched = ("activate", "test_key", "volume_key", "repair", "format", "add_keyslot", "clear_subsystem")
            assert not [call for call in world.calls if call.startswith(touched)], cut_at
            assert isinstance(world.observe(), Erasing)
        boot(world)
        assert_new(world, found.uuid)


def test_a_volume_in_use_is_erased_by_the_boot_alone() -> None:
    """Below an open mapping only what lies before the data goes; the session says what it waits for."""
    world = announced(EraseMethod.FAST)
    world.reboot()
    world.holder = "the mount of it"
    with session(AFTER, SETTINGS, world.ports) as running, pytest.raises(NeedsReboot, match="the mount of it"):
        list(running.erase())
    assert world.power.writes == []
    assert world.meta.facts().record.resets
    world.holder = None
    boot(world)
    assert world.meta.facts().record.intents == ()
