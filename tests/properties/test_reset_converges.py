"""A reset that was announced ends with a blank volume, wherever it is cut; until then nothing is repaired or opened."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luksctl.errors import AttemptsExhausted, NeedsReboot
from luksctl.model.announced_step import AnnounceReset, ConcludeReset, Discard, EraseEnds, EraseHeader, Overwrite
from luksctl.model.config import STATE
from luksctl.model.header import Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import MAX_ATTEMPTS, EraseMethod
from luksctl.model.meta import MetaState
from luksctl.model.observed import Blank, Erasing
from luksctl.model.probe import BLANK_HEAD_BYTES, BLANK_TAIL_BYTES, Range
from luksctl.model.simulate import World, reboot, simulate
from luksctl.model.step import CloseVolume, RepairMeta, Step, WriteStateEncryption
from luksctl.reconcile.plan_reset import data_offset, ends_of, erase_passes, head_of, key_areas
from luksctl.units import MIB
from luksctl.value import replace
from tests.properties.strategies import Situation, copies_of, headers, resets
from tests.properties.worlds import plan_for, walk

THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_MAY_BE_TAKEN = (
    RepairMeta,
    AnnounceReset,
    EraseHeader,
    CloseVolume,
    EraseEnds,
    Overwrite,
    Discard,
    WriteStateEncryption,
    ConcludeReset,
)


def fresh(world: World) -> World:
    """Return the world as if no attempt had been made yet, and nobody used the volume any more."""
    world = reboot(world)
    observed, record = world.observed, world.meta.record
    again = tuple(replace(intent, attempt=0) for intent in record.intents)
    if isinstance(observed, Erasing):
        observed = replace(observed, intent=replace(observed.intent, attempt=0))
    return World(observed, replace(world.meta, record=replace(record, intents=again)))


def erased(case: Situation, world: World) -> World:
    """Plan and simulate until the volume is no longer being erased; fails on a refusal."""
    for _ in range(2):
        if not isinstance(world.observed, Erasing):
            return world
        planned = plan_for(case.desired, world)
        if planned.refusal is not None:
            raise AssertionError(f"refused: {planned.refusal}")
        for step in planned.steps:
            world = simulate(world, step)
    raise AssertionError(f"still to do: {plan_for(case.desired, world).steps}")


def assert_gone(case: Situation, world: World) -> None:
    """Check that nothing of the volume is left, on the device or in META."""
    record, volume = world.meta.record, case.desired.volume
    assert isinstance(world.observed, Blank)
    assert record.intent(volume) is None
    assert volume not in record.encrypted
    assert volume != STATE or not world.meta.has_tag9
    assert world.meta.state not in {MetaState.ABSENT, MetaState.UNREADABLE}


def torn(before: World, step: Step, after: World) -> Iterator[World]:
    """Yield what a reader may find when the power went inside `step`."""
    yield before
    yield after
    if isinstance(step, AnnounceReset | WriteStateEncryption | ConcludeReset | RepairMeta):
        for meta, observed, state in (
            (before.meta, before.observed, MetaState.SECOND_ONLY),
            (after.meta, after.observed, MetaState.DIFFER),
            (after.meta, after.observed, MetaState.FIRST_ONLY),
        ):
            yield World(observed, replace(meta, state=state))
    if isinstance(step, EraseHeader | EraseEnds) and isinstance(before.observed, Erasing):
        header = before.observed.copies.best
        for left in (Copies.SECOND_ONLY, Copies.FIRST_ONLY):
            if header is None:
                break
            yield World(replace(before.observed, copies=copies_of(header, left)), before.meta)
        yield World(replace(before.observed, copies=HeaderCopies(Copies.DAMAGED)), before.meta)


@THOROUGH
@given(resets())
def test_an_uncut_reset_leaves_a_blank_volume(case: Situation) -> None:
    """Whatever was there, nothing of it is left, and META neither announces nor expects anything of it."""
    assert_gone(case, erased(case, reboot(case.world)))


@THOROUGH
@given(resets())
def test_a_cut_between_any_two_steps_or_inside_one_converges(case: Situation) -> None:
    """From every prefix of the plan, and from what a step leaves half done, the next boot ends the reset."""
    for step, before, after in walk(case.desired, case.world):
        for left in torn(before, step, after):
            assert_gone(case, erased(case, fresh(left)))


@THOROUGH
@given(resets())
def test_nothing_is_repaired_opened_or_made_under_a_reset(case: Situation) -> None:
    """Whatever header copy is left, and wherever the reset was cut, the plan only erases."""
    for step, before, after in walk(case.desired, case.world):
        for left in torn(before, step, after):
            if isinstance(left.observed, Erasing):
                assert all(isinstance(each, _MAY_BE_TAKEN) for each in plan_for(case.desired, left).steps)


@THOROUGH
@given(resets())
def test_below_what_is_in_use_only_the_header_goes(case: Situation) -> None:
    """As long as somebody uses the volume, its data is left alone and the intent stands; then a reboot is asked for."""
    observed = case.world.observed
    assert isinstance(observed, Erasing)
    held = World(replace(observed, holder="somebody"), case.world.meta)
    world = held
    for step, _, after in walk(case.desired, held):
        world = after
        assert isinstance(step, EraseHeader | WriteStateEncryption | RepairMeta)
        if isinstance(step, EraseHeader):
            end = data_offset(observed.copies)
            assert all(part.offset_bytes + part.size_bytes <= end for ranges in step.passes for part in ranges)
    assert world.meta.record.intent(case.desired.volume) is not None
    assert isinstance(plan_for(case.desired, world).refusal, NeedsReboot)
    assert_gone(case, erased(case, reboot(world)))


@THOROUGH
@given(resets())
def test_a_reset_that_fails_three_times_is_left_alone(case: Situation) -> None:
    """Each attempt is announced before it touches the device; after three of them, the reason is given instead."""
    world, begun = reboot(case.world), 0
    for _ in range(MAX_ATTEMPTS + 2):
        for step, _, after in walk(case.desired, world):
            world = after
            if isinstance(step, AnnounceReset):
                begun += 1
                break
            assert isinstance(step, RepairMeta)
    assert begun == MAX_ATTEMPTS
    assert isinstance(plan_for(case.desired, world).refusal, AttemptsExhausted)


@THOROUGH
@given(resets())
def test_keys_go_before_the_header_and_the_intent_goes_last(case: Situation) -> None:
    """While a copy says where keys are they go first; then all else; a full overwrite where that was asked for."""
    world = reboot(case.world)
    observed = world.observed
    assert isinstance(observed, Erasing)
    steps = plan_for(case.desired, world).steps
    kinds = [type(step) for step in steps if not isinstance(step, RepairMeta | CloseVolume | WriteStateEncryption)]
    header = [EraseHeader] if observed.copies.best is not None else []
    last = Overwrite if observed.intent.method is EraseMethod.ZEROES else Discard
    assert kinds == [AnnounceReset, *header, EraseEnds, last, ConcludeReset]
    for step in steps:
        if isinstance(step, EraseHeader) and observed.copies.best is not None:
            assert set(step.passes[0]) == set(key_areas(observed.copies.best))
            assert step.passes[1][0].offset_bytes == 0
        if isinstance(step, EraseEnds):
            covered = [(part.offset_bytes, part.offset_bytes + part.size_bytes) for part in step.ranges]
            size = observed.device.size_bytes
            assert covered[0][0] == 0
            assert covered[0][1] >= min(size, BLANK_HEAD_BYTES, observed.intent.head_bytes or size)
            assert covered[-1][1] == size
            assert covered[-1][0] <= size - BLANK_TAIL_BYTES


@given(headers(), st.sampled_from([0x4000, 0x10000, 0x400000]), st.integers(0, 400))
def test_the_head_covers_whatever_a_header_names(found: LuksHeader, header_bytes: int, area_mib: int) -> None:
    """Key areas outside the usual layout are in it, up to what a LUKS2 header may have at all."""
    text = f'{{"keyslots": {{"0": {{"area": {{"offset": "{area_mib * MIB}", "size": "4096"}}}}}}}}'
    copies = copies_of(replace(found, header_size_bytes=header_bytes, json=text), Copies.EQUAL)
    head = head_of(copies)
    assert head >= BLANK_HEAD_BYTES
    assert head >= min(area_mib * MIB + 4096, 136 * MIB)
    assert head <= 136 * MIB
    for ranges in erase_passes(copies, head, around=True):
        assert all(0 <= part.offset_bytes < part.offset_bytes + part.size_bytes <= head for part in ranges)


def test_the_ends_of_small_devices_are_all_of_them() -> None:
    """Where head and tail meet, no byte is left out."""
    assert ends_of(BLANK_HEAD_BYTES, 10 * MIB) == (Range(0, 10 * MIB),)
    head, tail = ends_of(BLANK_HEAD_BYTES, 17 * MIB)
    assert head.size_bytes + tail.size_bytes >= 17 * MIB - 1
    assert tail.offset_bytes + tail.size_bytes == 17 * MIB
