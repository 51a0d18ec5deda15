"""Wherever a plan is cut, between steps or inside one, the next boots finish it by themselves."""

from __future__ import annotations

from hypothesis import HealthCheck, event, given, settings

from luksctl.model.intent import MAX_ATTEMPTS, FormatIntent
from luksctl.model.meta import MetaState
from luksctl.model.observed import Luks2, Observed, Unfinished
from luksctl.model.simulate import World, reboot, simulate
from luksctl.model.step import FormatVolume, MakeFilesystem, WriteIntent
from tests.properties.strategies import Situation, formattable, situations
from tests.properties.worlds import fresh_attempts, mountable, plan_for, settle, torn, walk

THOROUGH = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def announced_uuids(world: World) -> set[str]:
    """Return the header UUIDs that META announces."""
    return {intent.header_uuid for intent in world.meta.record.intents if isinstance(intent, FormatIntent)}


@THOROUGH
@given(formattable())
def test_an_uncut_format_ends_mountable(case: Situation) -> None:
    """A format that nobody cuts leaves a volume that may be mounted, and nothing to do."""
    end = settle(case.desired, case.world)
    assert mountable(case.desired, end)


@THOROUGH
@given(formattable())
def test_a_cut_between_any_two_steps_converges(case: Situation) -> None:
    """Power lost after any prefix of the plan: planning again ends with a mountable volume."""
    for _, _, after in walk(case.desired, case.world):
        left = fresh_attempts(reboot(after))
        assert mountable(case.desired, settle(case.desired, left))


@THOROUGH
@given(formattable())
def test_a_cut_inside_any_step_converges(case: Situation) -> None:
    """Power lost in the middle of any step: whatever its docstring says is found then, the next boots finish."""
    for step, before, after in walk(case.desired, case.world):
        for left in torn(before, step, after):
            event(f"cut in {type(step).__name__}")
            assert mountable(case.desired, settle(case.desired, fresh_attempts(left)))


@THOROUGH
@given(formattable())
def test_a_second_cut_converges_too(case: Situation) -> None:
    """A boot that resolves a cut may itself be cut after any step."""
    for _, _, after in walk(case.desired, case.world):
        for _, _, again in walk(case.desired, fresh_attempts(reboot(after))):
            assert mountable(case.desired, settle(case.desired, fresh_attempts(reboot(again))))


@THOROUGH
@given(situations())
def test_whatever_is_not_refused_converges(case: Situation) -> None:
    """Every plan that is not refused leaves, once applied, nothing to do or a refusal, and never a second plan."""
    planned = plan_for(case.desired, case.world)
    world = case.world
    for step in planned.steps:
        world = simulate(world, step)
    assert plan_for(case.desired, world).steps == ()


@THOROUGH
@given(formattable())
def test_the_header_uuid_outlives_attempts(case: Situation) -> None:
    """Each attempt announces the UUID of the one before: what it left on the device is still named."""
    for _, _, after in walk(case.desired, case.world):
        named = announced_uuids(after)
        again = plan_for(case.desired, fresh_attempts(reboot(after)))
        for step in again.steps:
            if named and isinstance(step, WriteIntent):
                assert {step.intent.header_uuid} == named
            if named and isinstance(step, FormatVolume):
                assert {step.header_uuid} == named
            if named and isinstance(step, MakeFilesystem) and step.uuid is not None:
                assert {step.uuid} == named


@THOROUGH
@given(formattable())
def test_at_most_three_attempts(case: Situation) -> None:
    """A format that is cut each time right after its announcement is tried three times in all, then left alone."""
    world, begun = case.world, 0
    first = 1 if isinstance(world.observed, Unfinished) else 0
    for _ in range(MAX_ATTEMPTS + 2):
        for step, _, after in walk(case.desired, world):
            world = after
            if isinstance(step, WriteIntent):
                begun += 1
                break
        world = reboot(world)
    assert first + begun == MAX_ATTEMPTS
    assert plan_for(case.desired, world).refusal is not None


@THOROUGH
@given(formattable())
def test_a_finished_volume_has_a_keyslot_after_every_step(case: Situation) -> None:
    """From the moment a volume counts as finished, some keyslot is there, whatever is cut."""
    if case.desired.encryption is None:
        return
    for step, before, after in walk(case.desired, case.world):
        for left in torn(before, step, after):
            observed: Observed = left.observed
            assert not isinstance(observed, Luks2) or observed.header.keyslots


@THOROUGH
@given(formattable())
def test_the_device_is_announced_before_it_is_touched(case: Situation) -> None:
    """After every prefix in which the device is no longer as found, META holds the intent or the finished record."""
    for step, _, after in walk(case.desired, case.world):
        record = after.meta.record
        if isinstance(after.observed, Unfinished):
            assert record.intent(case.desired.volume) == after.observed.intent, type(step).__name__
            assert after.meta.state is MetaState.OK
