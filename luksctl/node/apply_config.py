"""Take a machine config from an operator: the first one of a node, one for a locked node, or a newer one.

maintenance   --insecure: formats blank volumes, stores the config in STATE, mounts; success means STATE holds it.
              A first time that was cut short is done again: STATE may be formatted by then, and hold no config yet
locked        the config may only open: what opens is mounted, nothing is formatted, nothing is stored over
running       the config replaces STATE's own if every encrypted volume unlocks now, with a key of the new config or of
              the ones before it: at once, on trial, or by a reboot (luksctl.node.running_config)
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.config.placement import expect_bootable
from luksctl.errors import (
    Degraded,
    DeviceError,
    LuksctlError,
    NotConverged,
    Refused,
)
from luksctl.model.config import EPHEMERAL, STATE, MachineConfig
from luksctl.node.boot import follow_state, open_volume
from luksctl.node.expected import expecting
from luksctl.node.kms_meta import prepare_reach
from luksctl.node.modes import How, Mode
from luksctl.node.node import Node
from luksctl.node.opening import Wish, await_meta, bring_up
from luksctl.node.preview import outlook
from luksctl.node.report import Report, write_report
from luksctl.node.retry import start_mounts
from luksctl.node.running_config import Taken, take
from luksctl.node.sources import (
    state_directory,
    store_config,
)
from luksctl.node.units import mount_unit
from luksctl.node.waiting import Deadline
from luksctl.reconcile.desire import desire
from luksctl.value import frozen


class Condition(StrEnum):
    """What an operator's config may do here."""

    MAINTENANCE = "maintenance"
    LOCKED = "locked"
    RUNNING = "running"


@frozen
class Applied:
    """What became of the config. `stored` tells whether STATE holds it now; `taken` is more of it on a running node."""

    condition: Condition
    stored: bool
    notes: tuple[str, ...] = ()
    taken: Taken | None = None


def condition(node: Node) -> Condition:
    """Say what state the node is in; reads only. META UNREADABLE or a STATE that does not open is locked."""
    known = outlook(node)
    if known.waiting_for_config is not None:
        return Condition.MAINTENANCE
    return Condition.RUNNING if known.view.state_mounted else Condition.LOCKED


def apply_config(node: Node, config: MachineConfig, *, insecure: bool, how: How | None = None) -> Applied:
    """Apply `config` as the node's condition allows; see the module's docstring. Cut: the old config or the new one."""
    expect_bootable(config, lambda: node.settings)
    await_meta(node, _deadline(node))
    where = condition(node)
    if insecure and where is not Condition.MAINTENANCE:
        raise Refused(
            f"--insecure is only for a node without any config; this one is {where}",
            hint="luksctl apply-config -f FILE" if where is Condition.RUNNING else "luksctl status",
        )
    how = how or How()
    if where is not Condition.RUNNING and (how.dry_run or how.mode not in (Mode.AUTO, Mode.NO_REBOOT)):
        cause = f"the node is in the condition {where}, where a config is taken at once or not at all"
        raise Refused(cause, hint="luksctl plan -f FILE")
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
            taken = take(node, config, how)
            return Applied(where, taken.stored, taken.notes, taken)


def _bring_up_state(node: Node, config: MachineConfig, format_refusal: str | None) -> Report:
    wanted = desire(STATE, config, memory_kib=node.system.memory_kib(), format_refusal=format_refusal)
    if format_refusal is None:
        prepare_reach(node, config)
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
