"""What a plan may destroy, and what it may never touch, over every observation, META and wish."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luksctl.model.config import STATE
from luksctl.model.destroys import Destroys
from luksctl.model.meta import MetaState
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    Erasing,
    FilesystemFound,
    Foreign,
    Luks2,
    Missing,
    Unfinished,
)
from luksctl.model.plan import Plan
from luksctl.model.step import (
    ConcludeFormat,
    FormatVolume,
    MakeFilesystem,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    RepairMeta,
    Step,
    WriteIntent,
    WriteStateEncryption,
)
from luksctl.value import replace
from tests.properties.strategies import Situation, formattable, headers, situations
from tests.properties.worlds import plan_for, settle

THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_PROOFS = (ProveKey, ProveAnyKey, OpenVolume)
_READS = (MakeKey, ProveKey, ProveAnyKey, OpenVolume)


def first_of(plan: Plan, kinds: type[Step] | tuple[type[Step], ...]) -> int:
    """Return the position of the first step of `kinds`, or the length of the plan."""
    return next((at for at, step in enumerate(plan.steps) if isinstance(step, kinds)), len(plan.steps))


@THOROUGH
@given(situations())
def test_data_is_destroyed_only_where_nothing_is_or_we_announced_it(case: Situation) -> None:
    """A step that destroys data is planned for Blank, or for Unfinished whose intent META holds for this device."""
    planned, observed = plan_for(case.desired, case.world), case.world.observed
    if not planned.destroys_data:
        return
    assert isinstance(observed, Blank | Unfinished)
    if isinstance(observed, Unfinished):
        # Unfinished is what observe makes of the intent in META, so both say the same.
        assert case.world.meta.record.intent(case.desired.volume) == observed.intent
        assert observed.intent.partition in {observed.device.partuuid, observed.device.path}
        assert observed.header is None or observed.header.unfinished_mark


@THOROUGH
@given(situations())
def test_nothing_is_destroyed_against_a_refusal_or_without_meta(case: Situation) -> None:
    """A wish that may not format, or a META that cannot hold the announcement, forbids every destroying step."""
    meta = case.world.meta
    if case.desired.format_refusal is not None or meta.state in {MetaState.ABSENT, MetaState.UNREADABLE}:
        assert not plan_for(case.desired, case.world).destroys_data


@THOROUGH
@given(situations())
def test_nothing_is_planned_for_what_is_not_ours(case: Situation) -> None:
    """Missing, Ambiguous, Foreign, Damaged, Erasing and unwanted content get a refusal and no step."""
    planned, observed = plan_for(case.desired, case.world), case.world.observed
    encrypted = case.desired.encryption is not None
    unwanted = isinstance(observed, FilesystemFound) if encrypted else isinstance(observed, Luks2)
    if isinstance(observed, Missing | Ambiguous | Foreign | Damaged | Erasing) or unwanted:
        assert planned.refusal is not None
        assert planned.steps == ()


@THOROUGH
@given(situations())
def test_a_plan_has_steps_or_a_refusal(case: Situation) -> None:
    """A refused plan takes no step, and its refusal names the volume."""
    planned = plan_for(case.desired, case.world)
    if planned.refusal is not None:
        assert planned.steps == ()
        assert planned.refusal.volume == case.desired.volume


@THOROUGH
@given(formattable())
def test_keys_are_made_before_the_first_write(case: Situation) -> None:
    """Every MakeKey stands before every step that writes anything but a META repair."""
    planned = plan_for(case.desired, case.world)
    writes = [at for at, step in enumerate(planned.steps) if not isinstance(step, (*_READS, RepairMeta))]
    makes = [at for at, step in enumerate(planned.steps) if isinstance(step, MakeKey)]
    assert len(makes) == (0 if case.desired.encryption is None else len(case.desired.encryption.keys))
    assert not makes or max(makes) < min(writes)


@THOROUGH
@given(situations())
def test_meta_follows_only_a_proven_key(case: Situation) -> None:
    """Before tag 9 gets a key list, a key of exactly that list is proven in the same plan."""
    planned = plan_for(case.desired, case.world)
    for at, step in enumerate(planned.steps):
        if not isinstance(step, WriteStateEncryption) or step.encryption is None:
            continue
        proofs = [proof for proof in planned.steps[:at] if isinstance(proof, _PROOFS)]
        assert any(
            proof.key in step.encryption.keys if isinstance(proof, ProveKey) else proof.encryption == step.encryption
            for proof in proofs
        )


@THOROUGH
@given(situations())
def test_only_state_writes_tag_9(case: Situation) -> None:
    """No plan of another volume touches META's list of STATE's keys."""
    planned = plan_for(case.desired, case.world)
    assert case.desired.volume == STATE or first_of(planned, WriteStateEncryption) == len(planned.steps)


@THOROUGH
@given(situations())
def test_the_intent_comes_first_and_goes_last(case: Situation) -> None:
    """The announcement stands before every destroying step; deleting it is the last step of a format."""
    planned = plan_for(case.desired, case.world)
    destroys = [at for at, step in enumerate(planned.steps) if step.destroys is Destroys.DATA]
    if destroys:
        assert first_of(planned, WriteIntent) < min(destroys)
        assert isinstance(planned.steps[-1], ConcludeFormat)
    concludes = sum(isinstance(step, ConcludeFormat) for step in planned.steps)
    assert concludes <= 1


@THOROUGH
@given(situations())
def test_a_torn_meta_is_repaired_before_anything_else(case: Situation) -> None:
    """A META with one good copy, or two that differ, is repaired by the first step of any plan."""
    planned = plan_for(case.desired, case.world)
    if planned.refusal is None and case.world.meta.state in {
        MetaState.FIRST_ONLY,
        MetaState.SECOND_ONLY,
        MetaState.DIFFER,
    }:
        assert isinstance(planned.steps[0], RepairMeta)
    assert all(not isinstance(step, RepairMeta) for step in planned.steps[1:])


@THOROUGH
@given(situations())
def test_no_meta_write_where_meta_cannot_be_read(case: Situation) -> None:
    """With META absent or unreadable a plan may open, and writes nothing to it."""
    if case.world.meta.state in {MetaState.ABSENT, MetaState.UNREADABLE}:
        planned = plan_for(case.desired, case.world)
        assert all(isinstance(step, OpenVolume | ProveAnyKey) for step in planned.steps)


@THOROUGH
@given(formattable())
def test_a_converged_volume_plans_nothing(case: Situation) -> None:
    """Once settled, the plan is empty, and stays so when asked again."""
    end = settle(case.desired, case.world)
    assert plan_for(case.desired, end).converged


@THOROUGH
@given(situations(), st.data())
def test_requirements_and_reencryption_stop_everything(case: Situation, data: st.DataObject) -> None:
    """A header with a requirement this version does not know is neither opened nor repaired."""
    observed = case.world.observed
    if not isinstance(observed, Luks2):
        return
    header = replace(data.draw(headers()), requirements=("online-reencrypt-v2",))
    world = replace(case.world, observed=replace(observed, header=header))
    assert plan_for(case.desired, world).refusal is not None


@THOROUGH
@given(formattable())
def test_a_plain_filesystem_has_room_and_its_announced_uuid(case: Situation) -> None:
    """A plain filesystem gets a size above zero and the UUID of the intent, by which a torn one is known as ours."""
    planned = plan_for(case.desired, case.world)
    for step in planned.steps:
        if isinstance(step, MakeFilesystem) and step.uuid is not None:
            assert step.size_bytes > 0
            announced = next(other.intent for other in planned.steps if isinstance(other, WriteIntent))
            assert step.uuid == announced.header_uuid
        if isinstance(step, FormatVolume):
            assert case.desired.encryption == step.encryption
