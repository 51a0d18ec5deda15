"""Make the keyslots of this node those of its config, on demand: `luksctl sync`; take over volumes of others: `adopt`.

Both work on a running node with the volumes open: the kernel gives no volume key back, so a configured key is recovered
anew, one key derivation for each volume. Where none can be, nothing is written.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from luksctl.errors import Degraded, Locked, NeedsReboot, Refused
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import Erasing, Luks2
from luksctl.model.step import Done, Step
from luksctl.node.boot import earlier_keys, state_wish
from luksctl.node.config_view import config_view
from luksctl.node.expected import expecting
from luksctl.node.header_backup import drop_proven
from luksctl.node.kms_meta import follow_reach
from luksctl.node.node import Node
from luksctl.node.opening import knowing_seals
from luksctl.node.report import note_in_sync
from luksctl.node.sources import forget_previous, keeping_on, previous_configs, previous_names, state_directory
from luksctl.node.trial import expect_no_trial
from luksctl.reconcile.converge import Session, look, session
from luksctl.reconcile.desire import desire
from luksctl.reconcile.recovery import keys_to_try
from luksctl.secret import Secret
from luksctl.value import frozen, replace


@frozen
class Synced:
    """One volume: the steps taken, or those that would be; what could not be brought in sync, and whether it is now.

    `next_boot` is what only the next boot can do, where nothing else is left.
    """

    volume: str
    in_sync: bool
    taken: tuple[Done, ...] = ()
    planned: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()
    adopted: bool = True
    next_boot: str | None = None


def sync(
    node: Node,
    volumes: tuple[str, ...],
    *,
    dry_run: bool = False,
    recovery: Secret | None = None,
    taking_back: bool = False,
) -> tuple[Synced, ...]:
    """Bring the keyslots of `volumes` in sync with the config that rules, or say what that would take.

    `recovery` is a recovery key, which serves where no configured key can be recovered any more. Refused while another
    config is on trial, unless this is `taking_back` that one.
    Locked or ProviderUnavailable where no key of a volume can be recovered: nothing was written to that one. Volumes
    that are plain are left out. Cut: each step says what is on disk then; the next boot, or sync, goes on.
    """
    if not taking_back:
        expect_no_trial(node)
    directory = state_directory(node)
    earlier = () if directory is None else previous_names(directory)
    config = ruling_config(node)
    tried = (_sync(node, config, volume, recovery, dry_run=dry_run) for volume in volumes)
    found = [synced for synced in tried if synced is not None]
    if not dry_run and directory is not None:
        found = [_with_reach(node, config, one) for one in found]
    # They are there for EPHEMERAL: STATE's earlier keys are in META.
    if directory is not None and not dry_run and any(one.in_sync for one in found if one.volume == EPHEMERAL):
        forget_previous(directory, earlier)
    if not dry_run:
        drop_proven(node)
    return tuple(found)


def _with_reach(node: Node, config: MachineConfig, synced: Synced) -> Synced:
    """Add what keeps META from knowing how the KMS of STATE is reached by this config."""
    problems = follow_reach(node, config) if synced.volume == STATE else ()
    return replace(synced, in_sync=synced.in_sync and not problems, problems=(*synced.problems, *problems))


def adopt(node: Node, volume: str) -> Synced:
    """Take over a volume that Talos or cryptsetup made: slots that configured keys open are noted as ours, no more.

    Every configured key is tried at its slot. Refused where none opens its own. Cut: nothing noted, or all of it.
    """
    wanted = wish(node, ruling_config(node), volume)
    taken: list[Done] = []
    with _session(node, wanted) as running:
        for done in running.adopt():
            taken.append(done)
            node.announce(done)
        left = running.compare()
    return Synced(volume, left.in_sync, tuple(taken), left.steps, left.problems)


def ruling_config(node: Node) -> MachineConfig:
    """Return the config by which the node runs; ConfigError where it is wrong, Locked where there is none."""
    view = config_view(node)
    if view.problem is not None:
        raise view.problem
    if view.ruling is None:
        raise Locked("no machine config is at hand", hint="luksctl status")
    return view.ruling


def wish(node: Node, config: MachineConfig, volume: str) -> DesiredVolume:
    """Return what `config` wants of the keyslots of `volume`, with the key lists it had before to fall back to."""
    directory = state_directory(node)
    if volume == STATE and directory is not None:
        return expecting(node.paths, state_wish(node, config, asked=True))
    wanted = desire(volume, config, memory_kib=node.system.memory_kib(), format_refusal="sync formats nothing")
    before = () if directory is None else previous_configs(directory)
    if directory is not None:
        wanted = keeping_on(directory, wanted)
    wanted = replace(wanted, sync=True, fallback=earlier_keys(volume, config, before))
    return expecting(node.paths, knowing_seals(node, wanted, asked=True))


def _sync(node: Node, config: MachineConfig, volume: str, recovery: Secret | None, *, dry_run: bool) -> Synced | None:
    wanted = wish(node, config, volume)
    found = look(wanted, node.settings.volume(volume), node.ports)
    if found.plan.refusal is not None:
        raise found.plan.refusal
    if isinstance(found.observed, Erasing):
        raise Degraded("it is being erased, so its keyslots stay as they are", volume=volume, hint="luksctl status")
    if not isinstance(found.observed, Luks2):
        return None
    if recovery is not None:
        wanted = replace(wanted, fallback=(*wanted.fallback, *keys_to_try(found.observed.header, recovery)))
    with _session(node, wanted) as running:
        for done in running.unlock():
            node.announce(done)
        before = running.compare()
        if dry_run or before.in_sync:
            note_in_sync(node, volume, in_sync=before.in_sync)
            return Synced(volume, before.in_sync, (), before.steps, before.problems, running.adopted)
        return _take(node, volume, running)


def _take(node: Node, volume: str, running: Session) -> Synced:
    taken: list[Done] = []
    problems: tuple[str, ...] = ()
    next_boot = None
    note_in_sync(node, volume, in_sync=False)
    try:
        for done in running.sync():
            taken.append(done)
            node.announce(done)
    except Degraded as error:
        problems = (error.cause,)
    except NeedsReboot as error:
        next_boot = error.cause
    in_sync = not problems and next_boot is None
    note_in_sync(node, volume, in_sync=in_sync)
    return Synced(volume, in_sync, tuple(taken), (), problems, running.adopted, next_boot)


def _session(node: Node, wanted: DesiredVolume) -> AbstractContextManager[Session]:
    if wanted.encryption is None:
        hint = "add its keys to the config"
        raise Refused("the config asks for no encryption of it", volume=wanted.volume, hint=hint)
    return session(wanted, node.settings.volume(wanted.volume), node.ports)
