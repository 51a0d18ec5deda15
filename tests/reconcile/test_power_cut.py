"""The power is cut at every single write of a first format, in turn: the next boots finish it without a hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.errors import AttemptsExhausted
from luksctl.model.config import EPHEMERAL, STATE, EncryptionPolicy, FormatRequires, KdfCost
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import Copies
from luksctl.model.meta import MetaState, NodeRecord
from luksctl.model.observed import FilesystemFound, Luks2, Unfinished
from luksctl.model.simulate import World as Simulated
from luksctl.model.simulate import simulate
from luksctl.reconcile.converge import converge
from tests.reconcile.essence import essence
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import encrypted, kms, node_id, static
from tests.reconcile.world import PARTUUID, SETTINGS, World, wish

ALL_KEYS = EncryptionPolicy(kdf=KdfCost(4, 64, 1), format_requires=FormatRequires.ALL)
WISHES = {
    "encrypted STATE": wish(encrypted(static(0), kms(3))),
    "encrypted EPHEMERAL, every key required": wish(encrypted(node_id(0), kms(1)), EPHEMERAL, ALL_KEYS),
    "plain STATE": wish(None),
    "plain EPHEMERAL": wish(None, EPHEMERAL),
}


def writes_of_a_format(desired: DesiredVolume) -> int:
    """Return how many writes an uncut first boot takes."""
    world = World()
    world.converge(desired)
    return len(world.power.writes)


def boot_with_cut(world: World, desired: DesiredVolume, cut_at: int) -> bool:
    """Boot with the power going at the n-th write; tell whether it went."""
    world.reboot()
    world.power.cut_at = cut_at
    try:
        world.converge(desired)
    except PowerCut:
        return True
    return False


def assert_mountable(world: World, desired: DesiredVolume) -> None:
    """Assert what must hold before a mount: finished, both copies equal, no intent, META whole, a key that opens."""
    observed, facts = world.observe(desired.volume), world.meta.facts()
    assert facts.state is MetaState.OK
    assert facts.record.intents == ()
    assert facts.record.partitions == ((desired.volume, PARTUUID),)
    if desired.encryption is None:
        assert isinstance(observed, FilesystemFound)
        assert facts.record.encrypted == ()
        return
    assert isinstance(observed, Luks2)
    assert observed.copies.state is Copies.EQUAL
    assert not observed.header.unfinished_mark
    assert observed.mapping is not None
    assert observed.mapping.signature is not None
    assert {slot.number for slot in observed.header.keyslots} == {key.slot for key in desired.encryption.keys}
    assert facts.record.encrypted == (desired.volume,)
    if desired.volume == STATE:
        assert facts.state_encryption == desired.encryption


@pytest.mark.parametrize("name", WISHES)
def test_a_cut_at_any_write_is_finished_by_the_next_boot(name: str) -> None:
    """Whichever write the power goes at, one more boot ends mountable and another one writes nothing."""
    desired = WISHES[name]
    for cut_at in range(1, writes_of_a_format(desired) + 1):
        world = World()
        assert boot_with_cut(world, desired, cut_at)
        world.reboot()
        world.converge(desired)
        assert_mountable(world, desired)
        world.reboot()
        world.converge(desired)
        assert world.power.writes == [], cut_at


@pytest.mark.parametrize("name", WISHES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_two_cuts_in_a_row_are_finished_too(name: str, data: st.DataObject) -> None:
    """The boot that finishes a cut format may be cut itself, at any of its writes."""
    desired, world = WISHES[name], World()
    most = writes_of_a_format(desired)
    boot_with_cut(world, desired, data.draw(st.integers(1, most), label="first cut"))
    boot_with_cut(world, desired, data.draw(st.integers(1, most + 4), label="second cut"))
    world.reboot()
    try:
        world.converge(desired)
    except AttemptsExhausted as error:
        raise AssertionError("two cuts are not three failures") from error
    assert_mountable(world, desired)


@pytest.mark.parametrize("name", WISHES)
def test_a_finished_volume_stays_openable_at_every_cut(name: str) -> None:
    """At each cut the device is ours to format again, or finished with a slot that its key opens; never in between."""
    desired = WISHES[name]
    for cut_at in range(1, writes_of_a_format(desired) + 1):
        world = World()
        boot_with_cut(world, desired, cut_at)
        world.reboot()
        found = world.look(desired)
        assert found.plan.refusal is None, (cut_at, found.plan.refusal)
        if isinstance(found.observed, Luks2):
            assert found.observed.header.keyslots
            assert not found.plan.destroys_data
        if isinstance(found.observed, Unfinished):
            assert found.plan.destroys_data


@pytest.mark.parametrize("name", WISHES)
def test_the_same_torn_images_without_our_intent_are_refused(name: str) -> None:
    """What a cut left is foreign data where META announces nothing: refused unless it is blank or whole."""
    desired = WISHES[name]
    for cut_at in range(1, writes_of_a_format(desired) + 1):
        world = World()
        boot_with_cut(world, desired, cut_at)
        world.reboot()
        world.meta.set_record(NodeRecord())
        found = world.look(desired)
        assert not found.plan.destroys_data or world.medium.is_zero()


@pytest.mark.parametrize("name", WISHES)
def test_simulate_says_what_observe_finds_after_each_step(name: str) -> None:
    """Simulated and observed world agree after every step, from a blank device and from a torn format."""
    desired = WISHES[name]
    for cut_at in (None, 8, 16, 24):
        world = World()
        if cut_at is not None:
            boot_with_cut(world, desired, cut_at)
            world.reboot()
        simulated = Simulated(world.observe(desired.volume), world.meta.facts())
        for done in converge(desired, SETTINGS, world.ports):
            simulated = simulate(simulated, done.step)
            found = Simulated(world.observe(desired.volume), world.meta.facts())
            assert essence(simulated) == essence(found), done.step


def test_three_cuts_end_the_attempts_and_name_the_phase() -> None:
    """A power cut in each of three attempts is enough: the fourth boot writes nothing and says what to do."""
    desired, world = WISHES["encrypted STATE"], World()
    for _ in range(3):
        boot_with_cut(world, desired, 8)
    world.reboot()
    with pytest.raises(AttemptsExhausted, match=r"failed 3 times, last while making the header") as caught:
        world.converge(desired)
    assert caught.value.hint is not None
    assert "luksctl retry STATE" in caught.value.hint
    assert world.power.writes == []
