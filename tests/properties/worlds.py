"""Walk a plan through simulate, cut it anywhere, and say what a volume must look like before it may be mounted."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.model.desired import DesiredVolume
from luksctl.model.header import UNFINISHED_MARK, Copies
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import MetaState
from luksctl.model.observed import Blank, FilesystemFound, Luks2, Observed, Unfinished
from luksctl.model.plan import Plan
from luksctl.model.simulate import World, reboot, simulate
from luksctl.model.step import (
    AddKeyslot,
    ConcludeFormat,
    EraseHead,
    FinishVolume,
    FormatVolume,
    MakeFilesystem,
    RepairHeader,
    RepairMeta,
    Step,
    WriteIntent,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.reconcile.plan import plan
from luksctl.value import replace
from tests.properties.strategies import FRESH_UUID, copies_of

META_STEPS = (RepairMeta, WriteIntent, WriteStateEncryption, ConcludeFormat)


def plan_for(desired: DesiredVolume, world: World) -> Plan:
    """Plan with the UUID a test can recognise."""
    return plan(desired, world.observed, world.meta, fresh_uuid=FRESH_UUID)


def walk(desired: DesiredVolume, world: World) -> Iterator[tuple[Step, World, World]]:
    """Yield each step of the plan with the world before and after it."""
    for step in plan_for(desired, world).steps:
        after = simulate(world, step)
        yield step, world, after
        world = after


def settle(desired: DesiredVolume, world: World) -> World:
    """Plan and simulate until nothing is left to do; fails on a refusal, or when three rounds were not enough."""
    for _ in range(3):
        planned = plan_for(desired, world)
        if planned.refusal is not None:
            raise AssertionError(f"refused: {planned.refusal}")
        if planned.converged:
            return world
        for step in planned.steps:
            world = simulate(world, step)
    raise AssertionError(f"still to do: {plan_for(desired, world).steps}")


def fresh_attempts(world: World) -> World:
    """Return the world as if its announced format had been tried once only."""
    observed, record = world.observed, world.meta.record
    again = tuple(replace(intent, attempt=1) for intent in record.intents)
    meta = replace(world.meta, record=replace(record, intents=again))
    if isinstance(observed, Unfinished):
        observed = replace(observed, intent=replace(observed.intent, attempt=1))
    return World(observed, meta)


def mountable(desired: DesiredVolume, world: World) -> bool:
    """Tell whether the volume is as wished, safe to mount, and known to META as finished."""
    observed, record = world.observed, world.meta.record
    if record.intent(desired.volume) is not None or world.meta.state not in {MetaState.OK, MetaState.BLANK}:
        return False
    if desired.encryption is None:
        return isinstance(observed, FilesystemFound)
    if not isinstance(observed, Luks2) or observed.mapping is None or observed.mapping.signature is None:
        return False
    slots = {slot.number for slot in observed.header.keyslots}
    return observed.copies_equal and not observed.header.unfinished_mark and bool(slots)


def torn(before: World, step: Step, after: World) -> list[World]:
    """Return what a reader may find when the power went inside `step`, as the step's docstring names it."""
    if isinstance(step, META_STEPS):
        return _torn_meta(before, after)
    cuts = [reboot(before), reboot(after)]
    match step:
        case FormatVolume():
            cuts += [_headerless(before), *_torn_header(reboot(after))]
        case AddKeyslot() | WriteToken():
            cuts += _torn_header(reboot(after))
        case EraseHead() | MakeFilesystem(uuid=str()):
            cuts.append(_headerless(before))
        case FinishVolume():
            cuts += _torn_finish(reboot(before), reboot(after))
        case RepairHeader():
            # The valid copy is untouched: a torn repair looks as before it, or as one copy alone.
            cuts += _torn_finish(reboot(before), reboot(after))
        case _:
            pass
    return cuts


def _torn_meta(before: World, after: World) -> list[World]:
    """Copy A is written first: until it is whole the old copy B serves, from then on the new copy A."""
    old, new = before.meta, after.meta
    return [
        reboot(before),
        reboot(World(before.observed, replace(old, state=MetaState.SECOND_ONLY))),
        reboot(World(after.observed, replace(new, state=MetaState.DIFFER))),
        reboot(World(after.observed, replace(new, state=MetaState.FIRST_ONLY))),
        reboot(after),
    ]


def _headerless(world: World) -> World:
    """Zeros or random bytes below an announced format."""
    observed = world.observed
    if not isinstance(observed, Unfinished | Blank):
        raise AssertionError(f"a destroying step over {type(observed).__name__}")
    intent = observed.intent if isinstance(observed, Unfinished) else _only_intent(world)
    return replace(world, observed=Unfinished(observed.device, intent, None))


def _only_intent(world: World) -> FormatIntent:
    (intent,) = world.meta.record.intents
    if not isinstance(intent, FormatIntent):
        raise AssertionError("a format step over an announced reset")
    return intent


def _torn_header(world: World) -> list[World]:
    """One copy is written and the other one is not, or torn; the mark is in both."""
    observed = world.observed
    if not isinstance(observed, Unfinished) or observed.header is None:
        raise AssertionError("a header step left no header")
    return [world, replace(world, observed=replace(observed, header=None))]


def _torn_finish(before: World, after: World) -> list[World]:
    """Copy 1 torn (the marked copy 2 serves), copy 1 new, copy 2 torn."""
    found: Observed = after.observed
    if not isinstance(found, Luks2):
        raise AssertionError("finishing left no LUKS2 volume")
    cuts = [before]
    for state in (Copies.DIFFER, Copies.FIRST_ONLY):
        copies = copies_of(found.header, state)
        if state is Copies.DIFFER and copies.second is not None and copies.second.header is not None:
            marked = replace(copies.second.header, subsystem=UNFINISHED_MARK)
            copies = replace(copies, second=replace(copies.second, header=marked))
        cuts.append(replace(after, observed=replace(found, copies=copies)))
    return cuts
