"""A boot that is past the phase in which tpm keys are made leaves them to the next one."""

from __future__ import annotations

import pytest

from luksctl.errors import Degraded, NeedsReboot
from luksctl.model.bookkeeping import Bookkeeping
from luksctl.model.config import Reseal, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.sealing import Due, Resealing
from luksctl.model.step import Done, StageRotation
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import converge
from luksctl.reconcile.rotation import rotate
from luksctl.value import replace
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.tpm_world import (
    ALONE,
    FIRST,
    TPM_SLOT,
    UPDATED,
    WITH_NODE_ID,
    WITH_STATIC,
    TpmWorld,
    blobs,
    following,
    sealed_states,
    updated,
)
from tests.reconcile.world import SETTINGS


def up(keys: VolumeEncryption = WITH_STATIC) -> TpmWorld:
    """Return a node that is up: its volume is open, and the TPM gives and makes no key any more."""
    world = TpmWorld()
    world.converge(following(keys))
    world.machine.phase_over = True
    return world


def boot(world: TpmWorld, keys: VolumeEncryption = WITH_STATIC, cut: int | None = None) -> list[Done]:
    """Boot, early enough for the TPM."""
    world.reboot()
    world.machine.phase_over = False
    world.power.cut_at = cut
    return world.converge(replace(following(keys), booting=True))


def rotated(world: TpmWorld, keys: VolumeEncryption = WITH_STATIC) -> list[Done]:
    """Ask for a new key."""
    return list(rotate(following(keys, rotate=(TPM_SLOT,)), SETTINGS, world.ports))


def lost(keys: VolumeEncryption = WITH_NODE_ID) -> TpmWorld:
    """Return a node that is up with other firmware: its tpm key is lost, and too late to be sealed anew."""
    world = updated(keys, vouched=True)
    with pytest.raises(Degraded):
        world.converge(replace(following(keys, reseal=Reseal.ASK), booting=True))
    world.machine.phase_over = True
    return world


def books(world: TpmWorld) -> Bookkeeping:
    """Return what the header notes."""
    header = world.medium.copies().best
    assert header is not None
    found = unverified(header)
    assert found is not None
    return found


def test_a_new_key_is_left_to_the_next_boot() -> None:
    """Until then the old one stays, also in a sync; the boot makes it once, and the boot after it writes nothing."""
    world = up()
    before = blobs(world)
    steps = [done.step for done in rotated(world) if isinstance(done.step, StageRotation)]
    assert [step.slots for step in steps] == [(TPM_SLOT,)]
    assert blobs(world) == before
    assert books(world).due == (Due(TPM_SLOT, FIRST),)
    writes = len(world.power.writes)
    world.converge(following(WITH_STATIC))
    assert len(world.power.writes) == writes
    boot(world)
    new = blobs(world)
    assert new != before
    assert len(new) == 1
    assert books(world).due == ()
    boot(world)
    assert (len(world.power.writes), blobs(world)) == (0, new)


def test_asking_twice_notes_it_once() -> None:
    """The second time nothing is written."""
    world = up()
    rotated(world)
    writes = len(world.power.writes)
    rotated(world)
    assert len(world.power.writes) == writes


def test_power_may_go_at_every_write_of_the_boot_that_makes_it() -> None:
    """The static key opens throughout; a later boot ends with one key in the TPM's slot, and none due."""
    world = up()
    rotated(world)
    boot(world)
    count = len(world.power.writes)
    assert count > 5
    for cut in range(1, count + 1):
        world = up()
        rotated(world)
        old = blobs(world)
        with pytest.raises(PowerCut):
            boot(world, cut=cut)
        boot(world)
        assert blobs(world) != old, cut
        assert len(blobs(world)) == 1, cut
        noted = books(world)
        assert (noted.due, noted.underway) == ((), ()), cut
        boot(world, ALONE)


def test_power_may_go_while_it_is_noted() -> None:
    """It is noted or not, and the boot ends well."""
    world = up()
    before = len(world.power.writes)
    rotated(world)
    count = len(world.power.writes) - before
    assert count > 0
    for cut in range(1, count + 1):
        world = up()
        world.power.cut_at = len(world.power.writes) + cut
        with pytest.raises(PowerCut):
            rotated(world)
        boot(world)
        assert (books(world).due, len(blobs(world))) == ((), 1), cut


def test_a_key_that_is_new_in_the_config_needs_no_note() -> None:
    """The config says it: the sync says when, and the boot does it."""
    only_static = encrypted(static(1))
    world = up(only_static)
    with pytest.raises(NeedsReboot, match="slot 0: this boot is past making its key"):
        world.converge(following(WITH_STATIC))
    assert blobs(world) == []
    boot(world)
    assert sealed_states(world) == {FIRST}


def test_another_fault_beside_it_is_a_fault() -> None:
    """Who is told to wait for the next boot must have nothing else to do."""
    world = up(encrypted(static(1)))
    world.machine.make_down = {2}
    three = VolumeEncryption((*WITH_STATIC.keys, static(2, b"third")))
    with pytest.raises(Degraded, match="slot 2"):
        world.converge(following(three))


def test_a_machine_that_changed_since_gets_no_key_by_it() -> None:
    """Whoever boots something else after somebody asked is not the one who asked; back in the old state it is made."""
    world = up()
    rotated(world)
    old = blobs(world)
    world.machine.state = UPDATED
    with pytest.raises(Degraded, match="nothing vouches"):
        boot(world)
    assert blobs(world) == old
    assert books(world).due == (Due(TPM_SLOT, FIRST),)
    world.machine.state = FIRST
    boot(world)
    assert blobs(world) != old
    assert books(world).due == ()


def test_a_lost_key_is_left_to_the_next_boot_of_the_same_machine() -> None:
    """Whoever opens it then: who asked saw the machine as it is. Until then, and no longer, it is not in sync."""
    world = lost()
    with pytest.raises(NeedsReboot, match="slot 0: this boot is past making its key"):
        rotated(world, WITH_NODE_ID)
    assert books(world).due == (Due(TPM_SLOT, UPDATED),)
    assert world.remembered == []
    writes = len(world.power.writes)
    with pytest.raises(NeedsReboot, match="slot 0"):
        world.converge(following(WITH_NODE_ID, Resealing(asked=True)))
    assert len(world.power.writes) == writes
    boot(world, WITH_NODE_ID)
    assert sealed_states(world) == {UPDATED}
    assert books(world).due == ()
    assert [(sealing.slot, sealing.vouching.was) for sealing in world.remembered] == [(TPM_SLOT, FIRST)]
    boot(world, ALONE)


def test_the_operators_word_is_about_one_state_of_the_machine() -> None:
    """Firmware that changed once more after somebody asked was not asked about; who asks again is heard."""
    world = lost()
    with pytest.raises(NeedsReboot):
        rotated(world, WITH_NODE_ID)
    world.machine.state = "firmware 3"
    old = blobs(world)
    with pytest.raises(Degraded, match="only a nodeID key opened"):
        boot(world, WITH_NODE_ID)
    assert blobs(world) == old
    world.machine.phase_over = True
    with pytest.raises(NeedsReboot):
        rotated(world, WITH_NODE_ID)
    assert books(world).due == (Due(TPM_SLOT, "firmware 3"),)
    boot(world, WITH_NODE_ID)
    assert sealed_states(world) == {"firmware 3"}


def test_a_sync_does_not_ask_for_what_it_cannot_do() -> None:
    """It names the command that does, and notes nothing."""
    world = lost()
    writes = len(world.power.writes)
    with pytest.raises(Degraded, match=r"this boot is past making its key.*luksctl keys rotate STATE --slot 0"):
        world.converge(following(WITH_NODE_ID, Resealing(asked=True)))
    assert len(world.power.writes) == writes
    assert books(world).due == ()


def test_another_slot_that_kept_its_key_is_told_beside_a_lost_one() -> None:
    """What waits for the next boot hides no fault."""
    keys = VolumeEncryption((*WITH_NODE_ID.keys, kms(2)))
    world = lost(keys)
    world.machine.make_down = {2}
    with pytest.raises(Degraded, match="slot 2 kept the key it had"):
        list(rotate(following(keys, rotate=(TPM_SLOT, 2)), SETTINGS, world.ports))
    assert books(world).due == (Due(TPM_SLOT, UPDATED),)


def test_power_may_go_at_every_write_of_the_boot_that_makes_a_lost_one() -> None:
    """The nodeID key opens throughout; a later boot of the same machine goes on."""
    world = lost()
    with pytest.raises(NeedsReboot):
        rotated(world, WITH_NODE_ID)
    boot(world, WITH_NODE_ID)
    count = len(world.power.writes)
    assert count > 5
    for cut in range(1, count + 1):
        world = lost()
        with pytest.raises(NeedsReboot):
            rotated(world, WITH_NODE_ID)
        with pytest.raises(PowerCut):
            boot(world, WITH_NODE_ID, cut=cut)
        boot(world, WITH_NODE_ID)
        assert sealed_states(world) == {UPDATED}, cut
        assert (books(world).due, books(world).underway) == ((), ()), cut
        boot(world, ALONE)


def test_a_slot_that_leaves_the_config_is_due_no_more() -> None:
    """The note goes with the slot."""
    world = up()
    rotated(world)
    only_static: DesiredVolume = replace(following(encrypted(static(1))), booting=True)
    world.reboot()
    list(converge(only_static, SETTINGS, world.ports))
    assert books(world).due == ()
    boot(world)
    assert len(blobs(world)) == 1
