"""A newer config for a node that runs: stored if every encrypted volume unlocks with it, and followed at once.

at once      it replaces STATE's own, and the keyslots are brought in sync; the next boot goes on where this ends
staged       it waits in STATE, and is STATE's own from the next boot on
reboot       staged, and then the machine is rebooted
try          its keys are added, nothing is stored or removed, and all is taken back unless it is confirmed in time
"""

from __future__ import annotations

from contextlib import ExitStack

from luksctl.config.changes import Changes, compare
from luksctl.errors import (
    ConfigError,
    Degraded,
    DeviceError,
    DeviceMissing,
    Locked,
    LuksctlError,
    MetaError,
    NeedsReboot,
    Refused,
)
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import MetaState
from luksctl.model.observed import Luks2
from luksctl.model.step import Step
from luksctl.node import trial
from luksctl.node.boot import earlier_keys, in_meta, state_wish
from luksctl.node.expected import expecting
from luksctl.node.kms_meta import follow_reach
from luksctl.node.modes import How, Mode, decide
from luksctl.node.node import Node
from luksctl.node.opening import knowing_seals
from luksctl.node.report import note_in_sync, read_report
from luksctl.node.sources import (
    forget_previous,
    previous_configs,
    previous_names,
    state_directory,
    store_config,
    stored_config,
)
from luksctl.node.staged import forget_staged, stage_config
from luksctl.node.taking_back import revert
from luksctl.reconcile.converge import Session, is_in_place, look, session
from luksctl.reconcile.desire import desire
from luksctl.value import field, frozen, replace

_OVERWRITTEN = "a config that was staged for the next boot was dropped"


@frozen
class Planned:
    """What a dry run found for one volume: the steps of its keyslots, and what cannot be brought in sync."""

    volume: str
    steps: tuple[Step, ...]
    problems: tuple[str, ...]


@frozen
class Taken:
    """What was done, or would be: `mode` is never AUTO. `rebooting` are the fields that need a reboot.

    `before` is the text of the config that was STATE's own, empty where there was none.
    """

    mode: Mode
    stored: bool
    rebooting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    planned: tuple[Planned, ...] = ()
    before: bytes = field(repr=False, default=b"")


def take(node: Node, config: MachineConfig, how: How) -> Taken:
    """Take `config` as `how` says; see the module. Refused before anything is written where no key leads to it.

    Cut: the old config or the new one rules, and the next boot brings the keyslots in sync with that.
    """
    directory = state_directory(node)
    if directory is None:
        raise Locked("STATE is not mounted any more", volume=STATE)
    meta = node.ports.meta.load()
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        cause = f"the config was not stored: META could not follow it, {meta.problem}"
        raise MetaError(cause, hint="luksctl meta list")
    stored = _stored(directory)
    changes = Changes() if stored is None else compare(stored, config)
    mode, rebooting = decide(how, changes)
    before = b"" if stored is None else stored.text
    with ExitStack() as held:
        reached = _reach_all(node, held, config, directory, mode)
        if how.dry_run:
            return Taken(mode, False, rebooting, (*changes.fixed, *reached.notes), _compared(reached), before)
        notes = (*changes.fixed, *reached.notes)
        match mode:
            case Mode.STAGED | Mode.REBOOT:
                waited = _stage(node, directory, config)
                taken = Taken(mode, True, rebooting, (*notes, *waited), before=before)
            case Mode.TRY:
                trial.begin(node, stored, how.timeout_s)
                failed = _tried(node, reached)
                taken = Taken(mode, False, (), notes, before=before)
            case _:
                taken = _replace(node, directory, config, reached, notes)
    if mode is Mode.TRY and failed:
        revert(node)
        raise Degraded("the config on trial was taken back at once: " + "; ".join(failed), hint="luksctl status")
    if mode is Mode.REBOOT:
        _reboot(node)
    return taken


def _reboot(node: Node) -> None:
    try:
        node.system.reboot()
    except DeviceError as error:
        cause = f"the config is stored for the next boot, and the reboot did not begin: {error.cause}"
        raise DeviceError(cause, hint="luksctl reboot") from error


def _stored(directory: str) -> MachineConfig | None:
    try:
        return stored_config(directory)
    except ConfigError:
        return None  # nobody can tell what it listed, so keys decide


def _stage(node: Node, directory: str, config: MachineConfig) -> tuple[str, ...]:
    """Leave `config` to the next boot, in place of what waited for it before."""
    over = forget_staged(directory)
    stage_config(node, directory, config)
    return (_OVERWRITTEN,) if over else ()


@frozen
class _Reached:
    """The volumes whose keyslots are to follow, unlocked and held; None where nothing changes."""

    state: Session | None
    ephemeral: Session | None
    notes: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[tuple[str, Session | None], ...]:
        return (STATE, self.state), (EPHEMERAL, self.ephemeral)


def _reach_all(node: Node, held: ExitStack, config: MachineConfig, directory: str, mode: Mode) -> _Reached:
    state = _reach_state(node, held, config, on_trial=mode is Mode.TRY)
    try:
        ephemeral, notes = _reach_ephemeral(node, held, config, directory, on_trial=mode is Mode.TRY)
    except Refused as error:
        if mode is not Mode.STAGED:
            raise
        # Whoever stages it may be about to reset the volume; if not, the next boot refuses it and formats nothing.
        return _Reached(state, None, (f"unless {EPHEMERAL} is reset before the next boot: {error.cause}",))
    return _Reached(state, ephemeral, notes)


def _compared(reached: _Reached) -> tuple[Planned, ...]:
    found = []
    for volume, running in reached.all:
        if running is not None:
            planned = running.compare()
            found.append(Planned(volume, planned.steps, planned.problems))
    return tuple(found)


def _tried(node: Node, reached: _Reached) -> list[str]:
    problems: list[str] = []
    for volume, running in reached.all:
        _follow(node, volume, running, problems, problems)
    return problems


def _replace(node: Node, directory: str, config: MachineConfig, reached: _Reached, notes: tuple[str, ...]) -> Taken:
    """Store `config`, and bring the keyslots in sync with it; a trial is confirmed, or given up, by that."""
    before = _stored(directory)
    # First what waits: after a cut between the two, the next boot must not put an older config over this one.
    if forget_staged(directory):
        notes = (*notes, _OVERWRITTEN)
    store_config(directory, config)
    if trial.end(node):
        notes = (*notes, "the trial is over")
    earlier = previous_names(directory)
    problems: list[str] = []
    late: list[str] = []
    for volume, running in reached.all:
        _follow(node, volume, running, problems, late)
    problems += follow_reach(node, config)
    left = tuple(_left_alone(volume) for volume, running in reached.all if _foreign(running))
    if not problems and not late and not reached.notes:
        forget_previous(directory, earlier)
    if problems:
        cause = "the config was stored, and the next boot tries again: " + "; ".join(problems)
        raise Degraded(cause, hint="luksctl status")
    if late:
        raise NeedsReboot("the config was stored; " + "; ".join(late))
    return Taken(Mode.NO_REBOOT, True, (), (*notes, *left), before=b"" if before is None else before.text)


def _foreign(running: Session | None) -> bool:
    return running is not None and not running.adopted


def _left_alone(volume: str) -> str:
    return f"nobody adopted {volume}, so its keyslots were left as they are (luksctl adopt {volume})"


def _reach(node: Node, held: ExitStack, desired: DesiredVolume) -> tuple[Session | None, tuple[str, ...]]:
    """Unlock a volume that is encrypted, with new keys or earlier ones, and hold it; raise Refused where none does.

    What else the next boot would refuse comes back as notes: no key is lost by it. Writes nothing.
    """
    volume = desired.volume
    running = held.enter_context(session(desired, node.settings.volume(volume), node.ports))
    found = look(desired, node.settings.volume(volume), node.ports)
    if isinstance(found.observed, Luks2) and desired.encryption is None and desired.policy.in_place and volume != STATE:
        return None, (f"the next boot decrypts {volume} in place",)
    if isinstance(found.observed, Luks2) and desired.encryption is None:
        cause = f"the config was not stored: it has no key for {volume}, which is encrypted"
        raise Refused(cause, volume=volume, hint="add its keys to the config; or erase it by name first")
    if found.plan.refusal is not None:
        if volume == STATE:
            raise Refused(f"the config was not stored: {found.plan.refusal.cause}", volume=STATE)
        return None, (f"the next boot will refuse {volume}: {found.plan.refusal.cause}",)
    if not isinstance(found.observed, Luks2):
        return None, (f"the next boot encrypts {volume} in place",) if is_in_place(found) else ()
    try:
        for done in running.unlock():
            node.announce(done)
        _expect_reachable(running)
    except (Locked, Degraded) as error:
        cause = f"the config was not stored: {error.cause}"
        hint = f"a key of {volume} that works now must be in the config, or in the one before it"
        raise Refused(cause, volume=volume, hint=hint) from error
    return running, ()


def _expect_reachable(running: Session) -> None:
    """Raise Degraded where the volume was unlocked by an earlier key, and no keyslot for the new ones may be added."""
    planned = running.compare()
    if planned.problems and not planned.steps and not running.unlocked_by_config:
        raise Degraded("; ".join(planned.problems))


def _reach_state(node: Node, held: ExitStack, config: MachineConfig, *, on_trial: bool) -> Session | None:
    """Reach STATE, unless META lists the same keys and the last look found them in sync: then nothing changes there."""
    wanted = state_wish(node, config)
    report = read_report(node, STATE)
    behind = report is not None and report.in_sync is False
    if in_meta(node, wanted) and not behind and not _policy_differs(node, config):
        return None
    running, _ = _reach(node, held, replace(expecting(node.paths, wanted), trial=on_trial))
    return running


def _policy_differs(node: Node, config: MachineConfig) -> bool:
    """Tell whether STATE's own config says otherwise about what is to do for slots with the right keys."""
    directory = state_directory(node)
    try:
        stored = None if directory is None else stored_config(directory)
    except ConfigError:
        return True
    before, now = (None if stored is None else stored.policy), config.policy
    return before is None or (before.prune, before.unfingerprinted) != (now.prune, now.unfingerprinted)


def _reach_ephemeral(
    node: Node, held: ExitStack, config: MachineConfig, directory: str, *, on_trial: bool
) -> tuple[Session | None, tuple[str, ...]]:
    wanted = desire(EPHEMERAL, config, memory_kib=node.system.memory_kib())
    try:
        stored = stored_config(directory)
    except ConfigError:
        stored = None
    before = previous_configs(directory) if stored is None else (stored, *previous_configs(directory))
    fallback = earlier_keys(EPHEMERAL, config, before)
    same_keys = stored is not None and stored.encryption_of(EPHEMERAL) == wanted.encryption and not fallback
    if same_keys and not _policy_differs(node, config):
        return None, ()
    wanted = replace(wanted, sync=True, fallback=fallback, trial=on_trial)
    desired = expecting(node.paths, knowing_seals(node, wanted))
    try:
        return _reach(node, held, desired)
    except DeviceMissing as error:
        return None, (f"{EPHEMERAL} is not there: {error}",)


def _follow(node: Node, volume: str, running: Session | None, problems: list[str], late: list[str]) -> None:
    """Bring the keyslots of a volume that was reached in sync; add what could not be done, and what is for a boot."""
    if running is None:
        return
    note_in_sync(node, volume, in_sync=False)
    try:
        for done in running.sync():
            node.announce(done)
    except NeedsReboot as error:
        late.append(f"{volume}, {error.cause}")
    except LuksctlError as error:
        problems.append(f"{volume}: {error.cause}")
    else:
        note_in_sync(node, volume, in_sync=True)
