"""A step that fails: the run ends with its error, the intent says why, and the next run goes on from there."""

from __future__ import annotations

import pytest

from luksctl.errors import AttemptsExhausted, CryptsetupError, DeviceError, LuksctlError, MetaError, NotConverged
from luksctl.model.config import EPHEMERAL, STATE, VolumeEncryption
from luksctl.model.header import Copies
from luksctl.model.intent import FormatIntent, FormatPhase
from luksctl.model.meta import MetaState
from luksctl.model.observed import FilesystemFound, Luks2, Unfinished
from luksctl.model.plan import Plan
from luksctl.model.step import CloseVolume, FinishVolume, MakeFilesystem, OpenVolume, RepairHeader
from luksctl.reconcile.apply import apply
from luksctl.value import replace
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.samples import OTHER, header
from tests.reconcile.world import DEVICE, World, wish

BOTH = encrypted(static(0), kms(3))
MKFS_FAILED = "mkfs.xfs ended with status 1"
CALLS = {
    "format /dev/sda3": FormatPhase.HEADER,
    "add_keyslot 0": FormatPhase.HEADER,
    "add_keyslot 3": FormatPhase.HEADER,
    "write_token 3": FormatPhase.HEADER,
    "test_key 0": FormatPhase.HEADER,
    "meta tag 9": FormatPhase.HEADER,
    "activate luks2-STATE": FormatPhase.HEADER,
    "make_filesystem": FormatPhase.FILESYSTEM,
    "clear_subsystem": FormatPhase.FINISH,
}


@pytest.mark.parametrize(("call", "phase"), CALLS.items())
def test_a_failing_step_is_noted_and_tried_again(call: str, phase: FormatPhase) -> None:
    """The intent names phase and cause; once the cause is gone, the same boot finishes without a reboot."""
    world = World()
    world.fail[call] = CryptsetupError(f"{call} did not work\nsecond line", errno=5)
    with pytest.raises(CryptsetupError) as caught:
        world.converge(wish(BOTH))
    assert caught.value.volume == STATE
    intent = world.meta.facts().record.intent(STATE)
    assert isinstance(intent, FormatIntent)
    assert (intent.attempt, intent.phase, intent.last_error) == (1, phase, f"{call} did not work")
    world.fail.clear()
    world.converge(wish(BOTH))
    assert isinstance(world.observe(), Luks2)
    assert world.meta.facts().record.intents == ()


def test_the_third_failure_is_explained_by_the_fourth_try() -> None:
    """A mkfs that fails every time stops after three attempts, and the refusal says which step and why."""
    world = World()
    world.fail["make_filesystem"] = DeviceError(MKFS_FAILED)
    for _ in range(3):
        with pytest.raises(DeviceError, match=MKFS_FAILED):
            world.converge(wish(BOTH))
    calls = len(world.power.writes)
    with pytest.raises(AttemptsExhausted, match=f"last while making the filesystem.*{MKFS_FAILED}"):
        world.converge(wish(BOTH))
    assert len(world.power.writes) == calls


def test_a_failure_without_words_is_noted_by_its_kind() -> None:
    """An error with an empty cause does not hide behind another one."""
    world = World()
    world.fail["make_filesystem"] = DeviceError("")
    with pytest.raises(DeviceError):
        world.converge(wish(BOTH))
    intent = world.meta.facts().record.intent(STATE)
    assert intent is not None
    assert intent.last_error == "DeviceError"


def test_a_meta_that_cannot_take_the_note_is_added_to_the_error() -> None:
    """The first cause stays the error; that it could not be noted is a note on it."""
    world = World()
    world.fail["make_filesystem"] = DeviceError(MKFS_FAILED)
    world.after["make_filesystem"] = lambda: world.fail.update({"meta record: attempt 1 filesystem": MetaError("I/O")})
    with pytest.raises(DeviceError, match=MKFS_FAILED) as caught:
        world.converge(wish(BOTH))
    assert any("could not be noted in META" in note for note in caught.value.__notes__)


def test_an_announcement_that_fails_touches_nothing() -> None:
    """META refuses the intent: the device stays blank, and no key was left in memory."""
    world = World()
    world.fail["meta record: attempt 1 header"] = MetaError("META is full")
    with pytest.raises(MetaError):
        world.converge(wish(BOTH))
    assert world.medium.is_zero()
    assert world.keys.left_open() == 0


@pytest.mark.parametrize("encryption", [BOTH, None], ids=["encrypted", "plain"])
def test_an_intent_that_was_deleted_does_not_come_back(encryption: VolumeEncryption | None) -> None:
    """Deleting the intent reaches copy A and fails on copy B: noting that failure must not announce it anew."""
    world = World()

    def one_write_of_copy_b_fails() -> None:
        world.meta.failing_second_writes = 1
        world.after.clear()

    world.after["meta record: "] = one_write_of_copy_b_fails
    with pytest.raises(MetaError, match="copy B"):
        world.converge(wish(encryption))
    facts = world.meta.facts()
    assert facts.state is MetaState.OK
    assert facts.record.intents == ()
    assert isinstance(world.observe(), FilesystemFound if encryption is None else Luks2)


def test_a_refused_plan_takes_no_step() -> None:
    """The refusal is raised before the first step."""
    world = World()
    refused = Plan(STATE, world.look(wish(BOTH)).plan.steps, refusal=DeviceError("no"))
    with pytest.raises(DeviceError, match="no"):
        next(apply(refused, world.ports))
    assert world.power.writes == []


def test_finishing_expects_the_announced_header() -> None:
    """Another header than announced is not finished."""
    world = World()
    world.medium.first = world.medium.second = header(OTHER)
    plan = Plan(STATE, (FinishVolume(STATE, DEVICE, "the one we made"),))
    with pytest.raises(NotConverged, match="changed under us"):
        list(apply(plan, world.ports))
    assert world.power.writes == []


def test_a_mark_that_stays_fails_the_finish() -> None:
    """A library that says it took the mark out and did not: the intent must stay, or the volume locks itself out."""
    world = World()
    world.fail["clear_subsystem"] = DeviceError("stop here")
    with pytest.raises(DeviceError):
        world.converge(wish(BOTH))
    del world.fail["clear_subsystem"]
    uuid = world.medium.copies().best
    assert uuid is not None
    world.ports.headers.repair(DEVICE)
    plan = Plan(STATE, (FinishVolume(STATE, DEVICE, uuid.uuid),))
    ports = world.ports
    kept = replace(ports, headers=_KeepsMark(ports.headers))
    with pytest.raises(DeviceError, match="still carries the unfinished mark"):
        list(apply(plan, kept))


class _KeepsMark:
    """Headers whose `clear_subsystem` does nothing."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def clear_subsystem(self, device: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize("state", [Copies.DIFFER, Copies.FIRST_ONLY])
def test_a_repair_that_does_not_help_is_an_error(state: Copies) -> None:
    """Copies that still disagree after the repair are reported as they are; nothing is mounted."""
    world = World()
    world.converge(wish(BOTH))
    best = world.medium.copies().best
    assert best is not None
    world.medium.second = replace(best, seqid=best.seqid - 1) if state is Copies.DIFFER else None
    world.fail["repair"] = CryptsetupError("write error", errno=5)
    with pytest.raises(CryptsetupError):
        world.converge(wish(BOTH))
    assert world.medium.copies().state is state
    del world.fail["repair"]
    done = world.converge(wish(BOTH))
    assert [type(each.step) for each in done] == [RepairHeader]
    assert world.medium.copies().state is Copies.EQUAL


def test_a_mapping_left_by_a_failed_attempt_is_closed_first() -> None:
    """The filesystem failed on the open mapping: the next attempt of the same boot closes it before it formats."""
    world = World()
    world.fail["make_filesystem"] = DeviceError(MKFS_FAILED)
    with pytest.raises(DeviceError):
        world.converge(wish(BOTH))
    assert isinstance(world.observe(), Unfinished)
    world.fail.clear()
    done = world.converge(wish(BOTH))
    assert any(isinstance(each.step, CloseVolume) for each in done)


def test_a_failed_encrypted_format_can_become_a_plain_one() -> None:
    """The config changed after a failed attempt: the mapping is closed, the head erased, the filesystem made."""
    world = World()
    world.fail["make_filesystem"] = DeviceError(MKFS_FAILED)
    with pytest.raises(DeviceError):
        world.converge(wish(BOTH, EPHEMERAL))
    world.fail.clear()
    done = world.converge(wish(None, EPHEMERAL))
    kinds = [type(each.step) for each in done]
    assert kinds.index(CloseVolume) < kinds.index(MakeFilesystem)
    assert isinstance(world.observe(EPHEMERAL), FilesystemFound)


def test_a_failed_plain_format_can_become_an_encrypted_one() -> None:
    """The other way round: the torn filesystem is ours by its UUID, and goes."""
    world = World()
    world.fail["make_filesystem"] = DeviceError(MKFS_FAILED)
    with pytest.raises(DeviceError):
        world.converge(wish(None, EPHEMERAL))
    world.fail.clear()
    world.converge(wish(BOTH, EPHEMERAL))
    observed = world.observe(EPHEMERAL)
    assert isinstance(observed, Luks2)
    assert observed.mapping is not None


def test_options_of_the_config_reach_the_mapping() -> None:
    """Performance options and discards are given when the volume is opened, by this run or a later one."""
    encryption = replace(BOTH, options=("no_read_workqueue", "no_write_workqueue"), allow_discards=True)
    world = World()
    world.converge(wish(encryption))
    expected = "activate luks2-STATE no_read_workqueue,no_write_workqueue discards"
    assert expected in world.calls
    world.reboot()
    world.calls.clear()
    done = world.converge(wish(encryption))
    assert [type(each.step) for each in done] == [OpenVolume]
    assert expected in world.calls


def test_errors_are_named_once() -> None:
    """An error that already names a volume keeps that name."""
    world = World()
    world.fail["make_filesystem"] = DeviceError(MKFS_FAILED, volume="META")
    with pytest.raises(LuksctlError) as caught:
        world.converge(wish(BOTH))
    assert caught.value.volume == "META"
