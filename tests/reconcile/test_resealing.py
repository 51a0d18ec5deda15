"""A tpm key is lost: who may seal another one, and that power can go at every write of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from luksctl.errors import (
    Degraded,
    DeviceError,
    KeyRejected,
    TpmReason,
    TpmRejected,
)
from luksctl.model.config import (
    KeyKind,
    Reseal,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.sealing import Resealing, Sealing, Vouching
from luksctl.model.step import MakeKey
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import converge
from luksctl.reconcile.rotation import rotate
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import FakeProviders, encrypted, node_id, static
from tests.reconcile.tpm_world import (
    ALONE,
    FIRST,
    TPM,
    TPM_SLOT,
    UPDATED,
    WITH_NODE_ID,
    WITH_STATIC,
    Tpm,
    TpmWorld,
    following,
    sealed_states,
    updated,
)
from tests.reconcile.world import SETTINGS


def refusal(world: TpmWorld, desired: DesiredVolume) -> str:
    """Boot, and return what the boot says of the keyslots, which nobody changed."""
    before = world.medium.copies()
    with pytest.raises(Degraded) as caught:
        world.converge(desired)
    assert world.medium.copies() == before
    assert world.open_mapping is not None
    return caught.value.cause


def test_a_boot_seals_anew_what_vouched_code_lost() -> None:
    """Another key than nodeID opened, and the provider vouches: the key is replaced, and the boot after it is quiet."""
    world = updated(WITH_STATIC, vouched=True)
    world.converge(following(WITH_STATIC))
    assert sealed_states(world) == {UPDATED}
    world.reboot()
    writes = len(world.power.writes)
    steps = world.converge(following(WITH_STATIC, reseal=Reseal.NEVER))
    assert len(world.power.writes) == writes
    assert not any(isinstance(done.step, MakeKey) for done in steps)


@pytest.mark.parametrize(
    ("keys", "vouched", "resealing", "reseal", "because"),
    [
        (WITH_STATIC, False, Resealing(), Reseal.AUTO, "nothing vouches for the code"),
        (WITH_NODE_ID, True, Resealing(), Reseal.AUTO, "only a nodeID key opened"),
        (WITH_STATIC, True, Resealing(), Reseal.ASK, "the policy asks first"),
        (WITH_STATIC, True, Resealing(asked=True), Reseal.ASK, "the policy asks first"),
        (WITH_STATIC, True, Resealing(asked=True), Reseal.NEVER, "the policy never does that"),
        (WITH_STATIC, True, Resealing(barred="that was done once"), Reseal.AUTO, "that was done once"),
        (WITH_STATIC, True, Resealing(asked=True, barred="nobody knows"), Reseal.AUTO, "nobody knows"),
        (WITH_STATIC, True, Resealing(before=((TPM_SLOT, UPDATED),)), Reseal.AUTO, "back and forth"),
        (WITH_STATIC, True, Resealing(asked=True, before=((TPM_SLOT, UPDATED),)), Reseal.AUTO, "back and forth"),
    ],
)
def test_what_keeps_a_lost_key_lost(
    keys: VolumeEncryption, *, vouched: bool, resealing: Resealing, reseal: Reseal, because: str
) -> None:
    """The volume opens by the other key, nothing is written, and what is said names the cause and the command."""
    world = updated(keys, vouched=vouched)
    said = refusal(world, following(keys, resealing, reseal))
    assert because in said
    assert "PCR 7 is bb, and was aa" in said
    assert "luksctl keys rotate STATE --slot 0" in said
    assert sealed_states(world) == {FIRST}


def test_a_person_needs_nobody_to_vouch() -> None:
    """A sync by hand is the operator's word."""
    world = updated(WITH_NODE_ID)
    world.converge(following(WITH_NODE_ID, Resealing(asked=True)))
    assert sealed_states(world) == {UPDATED}


@pytest.mark.parametrize("reseal", [*Reseal])
def test_the_command_seals_anew_whatever_the_policy(reseal: Reseal) -> None:
    """It names the slot."""
    world = updated(WITH_STATIC)
    with pytest.raises(Degraded):
        world.converge(following(WITH_STATIC, reseal=Reseal.ASK))
    list(rotate(following(WITH_STATIC, reseal=reseal, rotate=(TPM_SLOT,)), SETTINGS, world.ports))
    assert sealed_states(world) == {UPDATED}


def test_a_tpm_that_is_away_loses_no_key() -> None:
    """It may be back; the operator's word changes nothing about that."""
    world = updated(WITH_STATIC, vouched=True)
    world.machine.there = False
    assert "there is no TPM" in refusal(world, following(WITH_STATIC, Resealing(asked=True)))
    assert sealed_states(world) == {FIRST}


def test_a_keyslot_that_was_taken_away_is_an_enrolment_too() -> None:
    """Who deletes the slot does not get the machine as it is now enrolled; nor who spoils its token."""
    for take_away in (_delete_slot, _spoil_token):
        world = updated(WITH_STATIC)
        take_away(world)
        assert "nothing vouches for the code" in refusal(world, following(WITH_STATIC))
        world.reboot()
        world.converge(following(WITH_STATIC, Resealing(asked=True)))
        assert sealed_states(world) == {UPDATED}


def _delete_slot(world: TpmWorld) -> None:
    observed = world.found
    world.ports.headers.remove_keyslot(observed, TPM_SLOT)  # type: ignore[arg-type]  # a device
    world.ports.headers.remove_token(observed, TPM_SLOT)  # type: ignore[arg-type]  # as above
    world.reboot()


def _spoil_token(world: TpmWorld) -> None:
    text = json.dumps({"type": "talos-tpm2", "keyslots": [], "blob": "of another TPM"})
    world.ports.headers.write_token(world.found, TPM_SLOT, text)  # type: ignore[arg-type]  # a device
    world.reboot()


def test_a_key_added_to_the_config_is_no_lost_one() -> None:
    """The config names it for the first time: that is the operator's word."""
    world = TpmWorld()
    world.converge(following(encrypted(static(1))))
    world.reboot()
    world.converge(following(WITH_STATIC))
    assert sealed_states(world) == {FIRST}


def test_a_key_that_was_being_added_when_the_power_went_is_no_lost_one() -> None:
    """It was never proven, so nothing is lost: the next boot adds it, with nobody to vouch, whatever the policy."""

    def formatted() -> TpmWorld:
        world = TpmWorld()
        world.converge(following(encrypted(node_id(1))))
        world.reboot()
        return world

    wanted = following(WITH_NODE_ID, Resealing(), Reseal.NEVER)
    world = formatted()
    before = len(world.power.writes)
    world.converge(wanted)
    assert len(world.power.writes) - before >= 4
    for cut in range(before + 1, len(world.power.writes) + 1):
        world = formatted()
        world.power.cut_at = cut
        with pytest.raises(PowerCut):
            world.converge(wanted)
        world.reboot()
        world.converge(wanted)
        assert sealed_states(world) == {FIRST}, cut


def test_what_a_run_sets_out_to_replace_is_remembered_before_its_first_write() -> None:
    """The slot, why, and both states: whenever the power goes, the node knows where the key was."""
    world = updated(WITH_STATIC, vouched=True)
    writes = len(world.power.writes)
    world.converge(following(WITH_STATIC))
    (sealing,) = world.remembered
    assert sealing == Sealing(TPM_SLOT, sealing.cause, Vouching(UPDATED, FIRST, holds=True))
    assert "PCR 7" in sealing.cause
    assert world.writes_when_remembered == [writes]


def test_a_rotation_of_a_lost_key_is_remembered_too() -> None:
    """The state it leaves is one that nothing goes back to by itself."""
    world = updated(WITH_STATIC)
    list(rotate(following(WITH_STATIC, rotate=(TPM_SLOT,)), SETTINGS, world.ports))
    assert [(sealing.slot, sealing.vouching.was) for sealing in world.remembered] == [(TPM_SLOT, FIRST)]


def test_what_cannot_be_remembered_is_not_replaced() -> None:
    """A STATE that takes no file could not tell later that the machine goes back and forth."""
    world = updated(WITH_STATIC, vouched=True)

    def full(*_: object) -> None:
        raise DeviceError("what the key was bound to cannot be noted")

    before = world.medium.copies()
    with pytest.raises(DeviceError):
        list(converge(following(WITH_STATIC), SETTINGS, replace(world.ports, remember=full)))
    assert world.medium.copies() == before
    assert world.open_mapping is not None


def test_only_the_key_that_opened_vouches() -> None:
    """A static key that is proven after a nodeID key opened says nothing about who sits there."""
    keys = encrypted(TPM, node_id(1), static(2))
    world = updated(keys, vouched=True)
    assert "only a nodeID key opened" in refusal(world, following(keys))


def test_power_may_go_at_every_write() -> None:
    """The static key opens throughout; boots after the cut end with one token, of the present state, and no spare."""
    world = updated(WITH_STATIC, vouched=True)
    world.converge(following(WITH_STATIC))
    count = len(world.power.writes)
    assert count > 5
    for cut in range(1, count + 1):
        world = updated(WITH_STATIC, vouched=True)
        world.power.cut_at = cut
        with pytest.raises(PowerCut):
            world.converge(following(WITH_STATIC))
        world.reboot()
        list(converge(following(WITH_STATIC), SETTINGS, world.ports))
        header = world.medium.copies().best
        assert header is not None
        assert {slot.number for slot in header.keyslots} == {0, 1}, cut
        assert sealed_states(world) == {UPDATED}, cut
        assert [token.number for token in header.tokens if token.type == "talos-tpm2"] == [TPM_SLOT], cut
        books = unverified(header)
        assert books is not None
        assert books.underway == ()
        world.reboot()
        world.converge(following(ALONE, Resealing(), Reseal.NEVER))


def test_a_key_that_is_rejected_for_other_reasons_is_not_lost() -> None:
    """A signature that is missing comes back with the next image."""
    world = updated(WITH_STATIC, vouched=True)

    def rejected(*_: object) -> Iterator[Secret]:
        raise TpmRejected("no signature", reason=TpmReason.NO_SIGNATURE)

    tpm = Tpm(world.machine)
    tpm.recover = rejected  # type: ignore[assignment, method-assign]  # one that says something else
    world.machine.provider = lambda key: tpm if key.kind is KeyKind.TPM else FakeProviders.provider(world.machine, key)  # type: ignore[method-assign]
    assert "no signature" in refusal(world, following(WITH_STATIC, Resealing(asked=True)))
    assert issubclass(TpmRejected, KeyRejected)


@pytest.mark.parametrize("booting", [False, True])
def test_a_phase_that_is_over_is_a_fault_of_a_boot_only(*, booting: bool) -> None:
    """A sync on a node that is up finds the token that was noted, and leaves it at that."""
    world = TpmWorld()
    world.converge(following(WITH_STATIC))
    world.reboot()
    world.machine.phase_over = True
    if booting:
        assert "past what was signed" in refusal(world, following(WITH_STATIC, booting=True))
        return
    writes = len(world.power.writes)
    world.converge(following(WITH_STATIC))
    assert len(world.power.writes) == writes


def test_the_machine_changes_again_after_a_cut() -> None:
    """What the cut left of the second key is of no use any more, and does not stand in the way of the third."""
    count = _writes_of_sealing_anew()
    for cut in range(1, count + 1):
        world = updated(WITH_STATIC, vouched=True)
        world.power.cut_at = cut
        with pytest.raises(PowerCut):
            world.converge(following(WITH_STATIC))
        world.machine.state = "firmware 3"
        world.reboot()
        world.converge(following(WITH_STATIC))
        assert sealed_states(world) == {"firmware 3"}, cut
        header = world.medium.copies().best
        assert header is not None
        assert {slot.number for slot in header.keyslots} == {0, 1}, cut


def _writes_of_sealing_anew() -> int:
    world = updated(WITH_STATIC, vouched=True)
    world.converge(following(WITH_STATIC))
    return len(world.power.writes)
