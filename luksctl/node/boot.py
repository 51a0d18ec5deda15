"""The two stages of a boot: open STATE with what is known before it is open, then everything by STATE's own config.

Between them systemd mounts STATE. Each stage may be run again at any time; one that finds its work done does nothing.
"""

from __future__ import annotations

import os
import stat

from luksctl.errors import ConfigError, DeviceError, Locked, LuksctlError, Maintenance
from luksctl.model.config import EPHEMERAL, STATE, EncryptionPolicy, KeyKind, MachineConfig, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Blank, FilesystemFound, Missing, Unfinished
from luksctl.node.expected import expecting
from luksctl.node.node import Node
from luksctl.node.opening import (
    Wish,
    already_open,
    await_device,
    await_meta,
    bring_up,
    knowing_seals,
)
from luksctl.node.report import Report, VolumeState, failure_report, note_in_sync, read_report, write_report
from luksctl.node.sources import (
    HEADER_BACKUPS,
    forget_previous,
    keeping_on,
    outside_config,
    previous_configs,
    previous_names,
    state_directory,
    store_config,
    stored_config,
)
from luksctl.node.waiting import Deadline, until
from luksctl.reconcile.converge import look, session
from luksctl.reconcile.desire import desire, desire_from_meta
from luksctl.value import frozen, replace

_MAINTENANCE_HINT = "luksctl apply-config --insecure -f FILE"
_STATE_MODE = 0o700


def open_volume(node: Node, volume: str, deadline: Deadline, *, booting: bool = False) -> Report:
    """Run the stage of `volume`, keep its report, and return it; raises the error that ended it.

    `booting`: this is the boot's own run, in which every key should serve; later some may be asked for no more.
    """
    stage = open_state if volume == STATE else open_ephemeral
    try:
        report = stage(node, deadline, booting=booting)
    except LuksctlError as error:
        _keep_failure(node, volume, error)
        raise
    except OSError as error:
        # STATE's filesystem that went read-only, a full /run: no bug, and the next attempt may find it mended.
        place = "" if error.filename is None else f"{error.filename}: "
        failure = DeviceError(f"{place}{error.strerror or type(error).__name__}")
        _keep_failure(node, volume, failure)
        raise failure from error
    report = _as_opened(report, read_report(node, volume))
    if node.left_for_network():
        report = replace(report, network=_go_on_with_network(node, volume))
    write_report(node, report)
    _drop_header_backups(node)
    return report


def finish_resets(node: Node, stage: str, deadline: Deadline) -> MetaFacts:
    """Finish what META announces to be erased, before anything is opened; raises what keeps this stage's from it.

    Returns META as it was before.
    """
    meta = node.ports.meta.load()
    if meta.record.resets:
        from luksctl.node.reset import finish_announced  # noqa: PLC0415  # few boots have any

        finish_announced(node, stage, deadline)
    return meta


def _go_on_with_network(node: Node, volume: str) -> bool:
    """Have the next stage see to kms keys of a volume that opened without them; what prevents it fails no boot."""
    from luksctl.node.units import network_unit  # noqa: PLC0415  # few boots leave anything

    try:
        node.system.start_soon(network_unit(volume))
    except DeviceError as error:
        node.tell(f"{volume}: the KMS will not be asked in this boot: {error.cause} (luksctl sync)")
        return False
    return True


def _drop_header_backups(node: Node) -> None:
    """Drop what was kept while keyslots were removed, of each volume that is in sync now."""
    directory = state_directory(node)
    if directory is not None and os.path.isdir(os.path.join(directory, HEADER_BACKUPS)):
        from luksctl.node.header_backup import drop_proven  # noqa: PLC0415  # few boots have any

        drop_proven(node)


def _keep_failure(node: Node, volume: str, error: LuksctlError) -> None:
    error.volume = error.volume or volume
    write_report(node, failure_report(volume, error))


def _as_opened(report: Report, before: Report | None) -> Report:
    """Keep what is known about the opening when this attempt found the volume open already."""
    if report.opened_by is not None or before is None or before.device != report.device:
        return report
    in_sync = before.in_sync if report.in_sync is None else report.in_sync
    return replace(report, opened_by=before.opened_by, slot=before.slot, in_sync=in_sync)


# ---- stage one: STATE -----------------------------------------------------------------------------------------------


def open_state(node: Node, deadline: Deadline, *, booting: bool = False) -> Report:
    """Open (or, at the very first boot, format) STATE with the outside config, else with META's tag 9.

    Raises Maintenance where there is no config anywhere and nothing on STATE, Locked where STATE does not open.
    """
    await_meta(node, deadline)
    await_device(node, STATE, deadline)
    return until(node, deadline, lambda: _bring_up_state(node, deadline, booting=booting))


def _bring_up_state(node: Node, deadline: Deadline, *, booting: bool) -> Report:
    meta = node.ports.meta.load()
    if meta.record.resets:
        finish_resets(node, STATE, deadline)
        meta = node.ports.meta.load()
    try:
        wishes = _wishes_for_state(node, meta)
    except (Locked, ConfigError):
        # An operator's config may have opened it, which is not kept anywhere.
        opened = already_open(node, STATE)
        if opened is None:
            raise
        return opened
    report = bring_up(node, tuple(replace(wish, desired=replace(wish.desired, booting=booting)) for wish in wishes))
    used = next(wish for wish in wishes if wish.source == report.config_source)
    if not report.in_sync:
        return report
    # The second stage relies on it, and may only where META names the very keys that were looked at.
    return replace(report, in_sync=used.desired.encryption == node.ports.meta.load().state_encryption)


def _wishes_for_state(node: Node, meta: MetaFacts) -> tuple[Wish, ...]:
    wishes: list[Wish] = []
    config_problem: ConfigError | None = None
    try:
        outside = outside_config(node)
    except ConfigError as problem:
        outside, config_problem = None, problem
    if outside is not None:
        refusal = None if meta.readable else f"META is unreadable ({meta.problem})"
        wanted = desire(STATE, outside, memory_kib=node.system.memory_kib(), format_refusal=refusal)
        if refusal is None:
            _prepare_reach(node, outside)
        wishes.append(Wish(expecting(node.paths, wanted), outside.source))
    # A first format that was cut short has its keys in tag 9 already, and nothing behind them to open.
    unfinished = outside is None and meta.record.intent(STATE) is not None and maintenance(node, meta) is not None
    # The same list again would only cost the same key derivations again.
    differs = outside is None or outside.encryption_of(STATE) != meta.state_encryption
    if meta.state_encryption is not None and differs and not unfinished:
        wishes.append(Wish(expecting(node.paths, desire_from_meta(meta)), "META tag 9"))
    if wishes:
        return tuple(wishes)
    if config_problem is not None:
        raise config_problem
    return (_wish_without_config(node, meta),)


def _wish_without_config(node: Node, meta: MetaFacts) -> Wish:
    """No config and no keys are at hand: a plain STATE still opens; an empty one is maintenance; the rest is locked."""
    reason = maintenance(node, meta)
    if reason is not None:
        raise Maintenance(reason, volume=STATE, hint=_MAINTENANCE_HINT)
    plain = expecting(node.paths, DesiredVolume(STATE, None, EncryptionPolicy(), "no machine config is at hand"))
    found = look(plain, node.settings.volume(STATE), node.ports)
    # A META that cannot be read might have said that STATE is encrypted, so then nothing plain is mounted.
    if isinstance(found.observed, FilesystemFound) and meta.readable:
        return Wish(plain, "nothing (STATE is plain)")
    problem = meta.tag9_problem or meta.problem or "META holds no keys for it"
    raise Locked(
        f"STATE is there, but no machine config is at hand and {problem}",
        volume=STATE,
        hint="luksctl apply-config -f FILE with the config of this node (it will only open)",
    )


def maintenance(node: Node, meta: MetaFacts) -> str | None:
    """Say why the node waits for its first config, or None where it does not: the caller knows that none is at hand.

    STATE must be missing, blank, or an interrupted first format, of which nobody was told that it succeeded.
    """
    plain = DesiredVolume(STATE, None, EncryptionPolicy())
    observed = look(plain, node.settings.volume(STATE), node.ports, meta).observed
    if isinstance(observed, Unfinished):
        return "no machine config, and the first format of STATE did not finish"
    if meta.state is MetaState.UNREADABLE or meta.state_encryption is not None or meta.tag9_problem is not None:
        return None
    if isinstance(observed, Missing):
        return f"no machine config, and STATE is missing ({observed.sought})"
    return "no machine config, and STATE is blank" if isinstance(observed, Blank) else None


# ---- stage two: STATE's own config, then EPHEMERAL ------------------------------------------------------------------


def open_ephemeral(node: Node, deadline: Deadline, *, booting: bool = False) -> Report:
    """Open (or format) EPHEMERAL by STATE's own config; from outside STATE a config may only open.

    Stores the outside config in a STATE that has none, and lets META's tag 9 follow STATE's own config.
    """
    meta = finish_resets(node, EPHEMERAL, deadline)
    turned = turned_over(node, meta) if booting else ()
    earlier = () if (mounted := state_directory(node)) is None else previous_names(mounted)
    if mounted is not None and os.path.exists(node.paths.sealed_pcrs):
        from luksctl.node.sealed_pcrs import StateSealedPcrs  # noqa: PLC0415  # only a boot that made STATE's tpm key

        StateSealedPcrs(lambda: mounted, node.paths.sealed_pcrs, node.tell).take_over()
    config, notes, refusal = _effective_config(node, booting=booting)
    notes = (*turned, *notes)
    if refusal is None:
        from luksctl.node.kms_meta import follow_reach  # noqa: PLC0415  # the first stage needs none of it

        notes = (*notes, *follow_reach(node, config))
    wanted = desire(EPHEMERAL, config, memory_kib=node.system.memory_kib(), format_refusal=refusal)
    await_device(node, EPHEMERAL, deadline)
    directory = state_directory(node)
    if refusal is None and directory is not None:
        earlier_lists = earlier_keys(EPHEMERAL, config, previous_configs(directory))
        wanted = replace(keeping_on(directory, wanted), sync=True, fallback=earlier_lists)
        wanted = knowing_seals(node, wanted)
    wish = Wish(expecting(node.paths, replace(wanted, booting=booting)), config.source)
    report = until(node, deadline, lambda: bring_up(node, (wish,)))
    if directory is not None and refusal is None and (report.in_sync or report.state is VolumeState.PLAIN):
        forget_previous(directory, earlier)
    return replace(report, notes=(*notes, *report.notes))


def _effective_config(node: Node, *, booting: bool) -> tuple[MachineConfig, tuple[str, ...], str | None]:
    """Return the config that rules, findings, and why it may not format (None: it may)."""
    directory = state_directory(node)
    if directory is None:
        outside = outside_config(node)
        if outside is None:
            raise Locked("STATE is not mounted, and no machine config is at hand", hint="luksctl status")
        return outside, (), "STATE is not mounted, so this config may only open"
    if stat.S_IMODE(os.stat(directory).st_mode) != _STATE_MODE:
        os.chmod(directory, _STATE_MODE)
    stored = stored_config(directory)
    if stored is None:
        return _first_config(node, directory, booting=booting)
    return stored, (*_ignored(node, stored), *follow_state(node, stored, booting=booting).findings), None


def turned_over(node: Node, meta: MetaFacts) -> tuple[str, ...]:
    """Do what earlier boots left to this one: a staged config becomes STATE's own, and a trial is over.

    What cannot be done is a finding: the config that STATE holds opens the volumes all the same.
    """
    directory = state_directory(node)
    if directory is None:
        return ()
    from luksctl.node.staged import take_staged  # noqa: PLC0415  # the first stage does without, and its start is timed
    from luksctl.node.trial import end_by_reboot  # noqa: PLC0415  # as above

    found: list[str] = []
    try:
        found += take_staged(node, directory)
    except OSError as error:
        found.append(f"the staged config could not be made STATE's own: {error.strerror or type(error).__name__}")
    try:
        found += end_by_reboot(node, meta)
    except LuksctlError as error:
        found.append(f"META still announces the trial that this reboot ended: {error}")
    return tuple(found)


def _first_config(node: Node, directory: str, *, booting: bool) -> tuple[MachineConfig, tuple[str, ...], str | None]:
    """Store the outside config in a STATE that has none, unless none of its keys opens STATE: it is not this node's."""
    first = outside_config(node)
    if first is None:
        raise Maintenance("STATE holds no machine config, and none is at hand", volume=STATE, hint=_MAINTENANCE_HINT)
    followed = follow_state(node, first, booting=booting)
    if not followed.opens:
        notes = (f"{first.source} was not stored in STATE, which none of its keys opens", *followed.findings)
        return first, notes, "it is not STATE's own, so it may only open"
    store_config(directory, first)
    return first, (f"stored the config of {first.source} in STATE", *followed.findings), None


def _ignored(node: Node, stored: MachineConfig) -> tuple[str, ...]:
    """Say what is left of configs outside STATE, which has its own."""
    try:
        outside = outside_config(node)
    except ConfigError as problem:
        return (f"a config outside STATE is wrong and was ignored: {problem}",)
    if outside is None or outside.text == stored.text:
        return ()
    return (f"{outside.source} differs from STATE's own config and was ignored",)


@frozen
class Followed:
    """What came of it: `findings` could not be brought in sync; `opens` says whether a configured key opens STATE."""

    opens: bool
    findings: tuple[str, ...] = ()


def follow_state(node: Node, config: MachineConfig, *, booting: bool = False) -> Followed:
    """Make STATE's keyslots, and META's tag 9 with them, follow STATE's own config; what fails comes back as a finding.

    Nothing is looked at again where the first stage of this boot opened STATE by the very same keys and found it in
    sync: one key derivation is all that a boot pays for STATE. META knows no policy, so one that bears on slots is
    looked at all the same.
    """
    wanted = replace(state_wish(node, config), booting=booting)
    report = read_report(node, STATE)
    usual = not wanted.policy.prune and not wanted.policy.unfingerprinted
    if report is not None and report.in_sync and usual and in_meta(node, wanted):
        return Followed(opens=True)
    note_in_sync(node, STATE, in_sync=False)
    opens = False
    try:
        with session(wanted, node.settings.volume(STATE), node.ports) as running:
            try:
                for done in running.follow():
                    node.announce(done)
                if running.reencryption is not None:
                    return Followed(running.unlocked_by_config)  # its keyslots are left to that
                opens = True
            finally:
                opens = opens or running.unlocked_by_config
    except LuksctlError as error:
        return Followed(opens, (f"STATE does not follow the config: {error}",))
    note_in_sync(node, STATE, in_sync=True)
    return Followed(opens)


def _prepare_reach(node: Node, config: MachineConfig) -> None:
    encryption = config.encryption_of(STATE)
    if encryption is not None and any(key.kind is KeyKind.KMS for key in encryption.keys):
        from luksctl.node.kms_meta import prepare_reach  # noqa: PLC0415  # few nodes have one; a start is timed

        prepare_reach(node, config)


def in_meta(node: Node, wanted: DesiredVolume) -> bool:
    """Tell whether META's tag 9 lists the very keys that are wanted of STATE."""
    return node.ports.meta.load().state_encryption == wanted.encryption


def state_wish(node: Node, config: MachineConfig, *, asked: bool = False) -> DesiredVolume:
    """Return what STATE's own config wants of STATE, which is mounted: its keys follow, META with them."""
    wanted = desire(
        STATE, config, memory_kib=node.system.memory_kib(), format_refusal="STATE is mounted and in use already"
    )
    before = node.ports.meta.load().state_encryption
    fallback = () if before is None or before == wanted.encryption else (before,)
    return knowing_seals(node, replace(wanted, follow_in_meta=True, sync=True, fallback=fallback), asked=asked)


def earlier_keys(
    volume: str, config: MachineConfig, previous: tuple[MachineConfig, ...]
) -> tuple[VolumeEncryption, ...]:
    """Return the key lists that `volume` had in earlier configs, newest first, without the one that it has now."""
    found: list[VolumeEncryption] = []
    for earlier in previous:
        encryption = earlier.encryption_of(volume)
        if encryption is not None and encryption != config.encryption_of(volume) and encryption not in found:
            found.append(encryption)
    return tuple(found)
