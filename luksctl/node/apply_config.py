"""Take a machine config from an operator: the first one of a node, one for a locked node, or a newer one.

maintenance   --insecure: formats blank volumes, stores the config in STATE, mounts; success means STATE holds it.
              A first time that was cut short is done again: STATE may be formatted by then, and hold no config yet
locked        the config may only open: what opens is mounted, nothing is formatted, nothing is stored over
running       the config replaces STATE's own if every encrypted volume unlocks now, with a key of the new config or of
              the ones before it; then the keyslots are brought in sync at once. The next boot goes on where this ends
"""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum

from luksctl.errors import (
    ConfigError,
    Degraded,
    DeviceError,
    DeviceMissing,
    Locked,
    LuksctlError,
    MetaError,
    NeedsReboot,
    NotConverged,
    Refused,
)
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import MetaState
from luksctl.model.observed import Luks2
from luksctl.node.boot import earlier_keys, follow_state, in_meta, open_volume, state_wish
from luksctl.node.expected import expecting
from luksctl.node.node import Node
from luksctl.node.opening import Wish, await_meta, bring_up, knowing_seals
from luksctl.node.preview import outlook
from luksctl.node.report import Report, note_in_sync, read_report, write_report
from luksctl.node.retry import start_mounts
from luksctl.node.sources import (
    forget_previous,
    previous_configs,
    previous_names,
    state_directory,
    store_config,
    stored_config,
)
from luksctl.node.units import mount_unit
from luksctl.node.waiting import Deadline
from luksctl.reconcile.converge import Session, look, session
from luksctl.reconcile.desire import desire
from luksctl.value import frozen, replace


class Condition(StrEnum):
    """What an operator's config may do here."""

    MAINTENANCE = "maintenance"
    LOCKED = "locked"
    RUNNING = "running"


@frozen
class Applied:
    """What became of the config. `stored` tells whether STATE holds it now."""

    condition: Condition
    stored: bool
    notes: tuple[str, ...] = ()


def condition(node: Node) -> Condition:
    """Say what state the node is in; reads only. META UNREADABLE or a STATE that does not open is locked."""
    known = outlook(node)
    if known.waiting_for_config is not None:
        return Condition.MAINTENANCE
    return Condition.RUNNING if known.view.state_mounted else Condition.LOCKED


def apply_config(node: Node, config: MachineConfig, *, insecure: bool) -> Applied:
    """Apply `config` as the node's condition allows; see the module's docstring. Cut: the old config or the new one."""
    await_meta(node, _deadline(node))
    where = condition(node)
    if insecure and where is not Condition.MAINTENANCE:
        raise Refused(
            f"--insecure is only for a node without any config; this one is {where}",
            hint="luksctl apply-config -f FILE" if where is Condition.RUNNING else "luksctl status",
        )
    match where:
        case Condition.MAINTENANCE:
            if not insecure:
                raise Refused(
                    "the node has no config yet; its first one cannot be checked against anything",
                    hint="luksctl apply-config --insecure -f FILE",
                )
            return _first(node, config)
        case Condition.LOCKED:
            return _only_open(node, config)
        case Condition.RUNNING:
            return _replace(node, config)


def _bring_up_state(node: Node, config: MachineConfig, format_refusal: str | None) -> Report:
    wanted = desire(STATE, config, memory_kib=node.system.memory_kib(), format_refusal=format_refusal)
    report = bring_up(node, (Wish(expecting(node.paths, wanted), config.source),))
    write_report(node, report)
    return report


def _mount_point(node: Node) -> str:
    """Return where STATE is mounted; NotConverged where it is not, before anything was done."""
    mount_point = node.settings.volume(STATE).mount_point
    if mount_point is None:
        raise NotConverged("STATE has no mount point in the settings, so no config can be stored in it")
    return mount_point


def _mounted_state(node: Node) -> str:
    """Have systemd mount STATE and return its directory."""
    mount_point = _mount_point(node)
    try:
        node.system.start_unit(mount_unit(mount_point))
    except DeviceError as error:
        error.hint = error.hint or "luksctl enable"
        raise
    directory = state_directory(node)
    if directory is None:
        raise NotConverged(f"STATE was opened, but {mount_point} is not mounted from it", hint="luksctl enable")
    return directory


def _deadline(node: Node) -> Deadline:
    """Return a deadline of our own: the boot's may be long gone."""
    return Deadline(node, node.system.monotonic_s() + node.settings.timeouts.hook_s)


def _bring_up_ephemeral(node: Node, so_far: str) -> None:
    """Open or format EPHEMERAL by what STATE holds now, and have systemd mount it.

    Done here and not only by its unit, because the operator is to see the steps, and the error by its own name.
    """
    try:
        open_volume(node, EPHEMERAL, _deadline(node))
    except LuksctlError as error:
        raise Degraded(f"{so_far}, but it did not come up: {error.cause}", volume=EPHEMERAL, hint=error.hint) from error
    start_mounts(node, EPHEMERAL)


def _first(node: Node, config: MachineConfig) -> Applied:
    _mount_point(node)
    report = _bring_up_state(node, config, None)
    directory = _mounted_state(node)
    # A STATE that an interrupted first time left open may have been formatted for another config.
    findings = _expect_state_opens(node, config)
    store_config(directory, config)
    _bring_up_ephemeral(node, "STATE holds the config")
    return Applied(Condition.MAINTENANCE, stored=True, notes=(*report.notes, *findings))


def _only_open(node: Node, config: MachineConfig) -> Applied:
    refusal = "the node is locked: a config given by hand may only open"
    report = _bring_up_state(node, config, refusal)
    _mounted_state(node)
    _bring_up_ephemeral(node, "STATE is open")
    return Applied(Condition.LOCKED, stored=False, notes=report.notes)


def _expect_state_opens(node: Node, config: MachineConfig) -> tuple[str, ...]:
    """Raise Refused where no key of `config` opens a STATE that an interrupted first time made; return findings."""
    followed = follow_state(node, config)
    if not followed.opens:
        because = "; ".join(followed.findings)
        raise Refused(f"the config was not stored: {because}", volume=STATE, hint="apply the first config again")
    return followed.findings


def _replace(node: Node, config: MachineConfig) -> Applied:
    """Store `config` and make the keyslots follow it, if every encrypted volume can be unlocked with it.

    Refused before anything is written where neither its keys nor those that the volumes had before unlock them. Cut:
    the old config, or the new one and keyslots that the next boot brings in sync.
    """
    directory = state_directory(node)
    if directory is None:
        raise Locked("STATE is not mounted any more", volume=STATE)
    meta = node.ports.meta.load()
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        cause = f"the config was not stored: META could not follow it, {meta.problem}"
        raise MetaError(cause, hint="luksctl meta list")
    with ExitStack() as held:
        state = _reach_state(node, held, config)
        ephemeral, notes = _reach_ephemeral(node, held, config, directory)
        store_config(directory, config)
        earlier = previous_names(directory)
        problems: list[str] = []
        late: list[str] = []
        for volume, running in ((STATE, state), (EPHEMERAL, ephemeral)):
            _follow(node, volume, running, problems, late)
        left = tuple(
            _left_alone(volume) for volume, running in ((STATE, state), (EPHEMERAL, ephemeral)) if _foreign(running)
        )
    if not problems and not late and not notes:
        forget_previous(directory, earlier)
    if problems:
        cause = "the config was stored, and the next boot tries again: " + "; ".join(problems)
        raise Degraded(cause, hint="luksctl status")
    if late:
        raise NeedsReboot("the config was stored; " + "; ".join(late))
    return Applied(Condition.RUNNING, stored=True, notes=(*notes, *left))


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
    if isinstance(found.observed, Luks2) and desired.encryption is None:
        cause = f"the config was not stored: it has no key for {volume}, which is encrypted"
        raise Refused(cause, volume=volume, hint="add its keys to the config; or erase it by name first")
    if found.plan.refusal is not None:
        if volume == STATE:
            raise Refused(f"the config was not stored: {found.plan.refusal.cause}", volume=STATE)
        return None, (f"the next boot will refuse {volume}: {found.plan.refusal.cause}",)
    if not isinstance(found.observed, Luks2):
        return None, ()
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


def _reach_state(node: Node, held: ExitStack, config: MachineConfig) -> Session | None:
    """Reach STATE, unless META lists the same keys and the last look found them in sync: then nothing changes there."""
    wanted = state_wish(node, config)
    report = read_report(node, STATE)
    behind = report is not None and report.in_sync is False
    if in_meta(node, wanted) and not behind and not _policy_differs(node, config):
        return None
    running, _ = _reach(node, held, expecting(node.paths, wanted))
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
    node: Node, held: ExitStack, config: MachineConfig, directory: str
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
    desired = expecting(node.paths, knowing_seals(node, replace(wanted, sync=True, fallback=fallback)))
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
