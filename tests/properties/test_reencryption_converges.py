"""A re-encryption is cut between any two steps: what goes on ends it or takes it back, and the plan opens it always."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from luksctl.model.announced_step import EndReencryption, RunReencryption, TakeBackReencryption
from luksctl.model.config import STATE, EncryptionPolicy
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import Copies, HeaderCopies, HeaderCopy, Keyslot, LuksHeader, Segment
from luksctl.model.intent import ReencryptIntent, SlotRole
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.model.probe import Device
from luksctl.model.simulate import World, simulate
from luksctl.model.step import OpenVolume, RemoveKeyslot, Step
from luksctl.reconcile.plan import plan
from luksctl.reconcile.plan_reencrypt import HeldSlot, moves, settled, steps_to_begin, steps_to_go_on
from luksctl.units import MIB
from luksctl.value import replace
from tests.reconcile.providers import encrypted, static

DEVICE = Device("/dev/sda3", 100 * MIB, "11111111-1111-4111-8111-111111111111", "/dev/sda")
UUID = "22222222-2222-4222-8222-222222222222"


@st.composite
def begun(draw: st.DrawFn) -> tuple[World, ReencryptIntent, DesiredVolume]:
    """Draw a volume with some keyslots, which of them are carried over, and what its re-encryption will be."""
    numbers = draw(st.lists(st.integers(0, 31), min_size=1, max_size=8, unique=True).map(sorted))
    roles = {number: draw(st.sampled_from(SlotRole)) for number in numbers} | {numbers[0]: SlotRole.CONFIG}
    carried = [number for number in numbers if number == numbers[0] or draw(st.booleans())]
    keys = encrypted(*(static(number) for number in numbers if roles[number] is SlotRole.CONFIG))
    keyslots = tuple(Keyslot(number, "argon2id", 4, 32, 1, None, "aes-xts-plain64") for number in numbers)
    segment = Segment(0, "crypt", "aes-xts-plain64", 4096, 16 * MIB)
    header = LuksHeader(UUID, "", "", 7, 0x4000, keyslots, (), (segment,), 1000, (), (), json.dumps({}))
    copies = HeaderCopies(Copies.EQUAL, HeaderCopy(0, header), HeaderCopy(0x4000, header))
    moved = moves(header, tuple(HeldSlot(number, roles[number]) for number in carried), keys)
    token = next(number for number in range(31, -1, -1) if number not in {slot.new for slot in moved} | set(numbers))
    intent = ReencryptIntent(STATE, DEVICE.identity, UUID, "aes-xts-plain64", moved, token, 4096)
    meta = MetaFacts(MetaState.OK, record=NodeRecord(partitions=((STATE, DEVICE.identity),), encrypted=(STATE,)))
    return World(Luks2(DEVICE, copies, header), meta), intent, DesiredVolume(STATE, keys, EncryptionPolicy())


def luks2(world: World) -> Luks2:
    assert isinstance(world.observed, Luks2)
    return world.observed


def to_the_end(world: World) -> tuple[World, list[Step]]:
    """Go on until nothing is announced; a sync is what empties the spares in between."""
    taken: list[Step] = []
    for _ in range(4):
        found = luks2(world)
        if found.reencryption is None:
            return world, taken
        if found.reencrypt_stage is ReencryptStage.SETTLING and not settled(found.header, found.reencryption):
            for slot in found.reencryption.moved:
                if slot.role is SlotRole.CONFIG and luks2(world).header.keyslot(slot.new) is not None:
                    world = simulate(world, RemoveKeyslot(STATE, DEVICE, slot.new))
        for step in steps_to_go_on(luks2(world)):
            world = simulate(world, step)
            taken.append(step)
    raise AssertionError(f"it does not end: {luks2(world).reencrypt_stage}")


@given(begun(), st.integers(0, 4))
def test_a_cut_between_any_two_steps_is_ended_or_taken_back(
    case: tuple[World, ReencryptIntent, DesiredVolume], cut: int
) -> None:
    """Before the start the old keyslots are all that is left; after it only those that were carried over."""
    world, intent, desired = case
    before = luks2(world).header.keyslots
    steps = (*steps_to_begin(DEVICE, intent, None), RunReencryption(STATE, DEVICE, intent, None))
    for step in steps[:cut]:
        world = simulate(world, step)
    planned = plan(desired, world.observed, world.meta, fresh_uuid=UUID)
    assert planned.refusal is None
    assert [type(step) for step in planned.steps] == [OpenVolume]
    ended, taken = to_the_end(world)
    assert ended.meta.record.intents == ()
    started = cut >= 3
    assert any(isinstance(step, RunReencryption | EndReencryption) for step in taken) == (cut == 3)
    assert any(isinstance(step, TakeBackReencryption) for step in taken) == (cut == 2)
    if not started:
        assert luks2(ended).header.keyslots == before
        assert luks2(ended).header.tokens == ()
    else:
        kept = {slot.new for slot in intent.moved if slot.role is not SlotRole.CONFIG}
        assert {slot.number for slot in luks2(ended).header.keyslots} == kept


@given(begun())
def test_a_reencryption_that_meta_does_not_announce_opens_nothing(
    case: tuple[World, ReencryptIntent, DesiredVolume],
) -> None:
    """The same header without the announcement is refused: such metadata can be forged."""
    world, intent, desired = case
    for step in steps_to_begin(DEVICE, intent, None):
        world = simulate(world, step)
    forged = replace(luks2(world), reencryption=None)
    meta = replace(world.meta, record=world.meta.record.without_intent(STATE))
    planned = plan(desired, forged, meta, fresh_uuid=UUID)
    assert planned.refusal is not None
    assert "META does not say" in str(planned.refusal)
