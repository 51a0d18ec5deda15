"""How the node is: config, META, volumes, and what to do next. Reads only, and holds no secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from luksctl.errors import Degraded, Locked, Maintenance
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.node.expected import expected_is_readable
from luksctl.node.node import Node
from luksctl.node.preview import Outlook, outlook, preview
from luksctl.node.trial import pending
from luksctl.node.volume_status import WELL, VolumeStatus, volume_status
from luksctl.value import frozen

_OURSELVES = "luksctl status"


class Condition(StrEnum):
    """How the whole node is."""

    RUNNING = "running"  # STATE is mounted
    MAINTENANCE = "maintenance"  # no config anywhere, and none on STATE
    LOCKED = "locked"  # STATE is there and does not open, or nobody tried yet
    NOT_STARTED = "not started"  # STATE would be opened or formatted, and was not yet


@frozen
class NodeStatus:
    """The node and its volumes. `next_commands` are what to type, the most useful first."""

    condition: Condition
    config_source: str | None
    notes: tuple[str, ...]
    meta: MetaFacts
    findings: tuple[str, ...]
    volumes: tuple[VolumeStatus, ...]
    next_commands: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Return 0, 4 (a volume is locked), 5 (degraded) or 12 (maintenance)."""
        if self.condition is Condition.MAINTENANCE:
            return Maintenance.exit_code
        codes = {volume.code for volume in self.volumes}
        if Locked.exit_code in codes or self.condition is Condition.LOCKED:
            return Locked.exit_code
        return Degraded.exit_code if self.findings or codes != {WELL} else WELL


def node_status(node: Node, volumes: Sequence[str]) -> NodeStatus:
    """Look at the node and at `volumes`; what cannot be read becomes a finding."""
    known = outlook(node)
    waiting = known.waiting_for_config
    shown = tuple(volume_status(node, preview(known, volume)) for volume in volumes)
    findings = (*_meta_findings(known.meta), *_config_findings(known))
    if not expected_is_readable(node.paths):
        findings = (*findings, f"{node.paths.expected_encrypted} cannot be understood, so nothing plain is mounted")
    hints = [volume.hint for volume in shown if volume.hint not in (None, _OURSELVES)]
    if waiting is not None:
        hints.insert(0, "luksctl apply-config --insecure -f FILE")
    return NodeStatus(
        condition=_condition(known, waiting, shown),
        config_source=None if known.view.ruling is None else known.view.ruling.source,
        notes=(*_on_trial(known), *known.view.notes),
        meta=known.meta,
        findings=findings,
        volumes=shown,
        next_commands=tuple(dict.fromkeys(hints)),
    )


def _on_trial(known: Outlook) -> tuple[str, ...]:
    trial = pending(known.node, known.meta)
    if trial is None:
        return ()
    left_s = max(0.0, trial.deadline_s - known.node.system.monotonic_s())
    return (f"a machine config is on trial for {left_s:.0f} s more (luksctl trial revert)",)


def _condition(known: Outlook, waiting: str | None, shown: Sequence[VolumeStatus]) -> Condition:
    if waiting is not None:
        return Condition.MAINTENANCE
    if known.view.state_mounted:
        return Condition.RUNNING
    unreadable = known.meta.state is MetaState.UNREADABLE
    if unreadable or any(volume.code == Locked.exit_code for volume in shown):
        return Condition.LOCKED
    return Condition.NOT_STARTED


def _meta_findings(meta: MetaFacts) -> Iterator[str]:
    if meta.state not in (MetaState.OK, MetaState.BLANK):
        because = "" if meta.problem is None else f": {meta.problem}"
        yield f"META is {meta.state}{because}"
    if meta.tag9_problem is not None:
        yield f"META's tag 9, the keys of STATE, cannot be used: {meta.tag9_problem}"
    if meta.uuid_override is not None:
        yield "META overrides the node UUID, so the secret part of every nodeID key lies in clear on this disk"


def _config_findings(known: Outlook) -> Iterator[str]:
    problem = known.view.problem
    if problem is not None:
        yield f"the machine config is wrong: {problem.problems[0]}"
