"""Why a volume does not open, or what is about to break: `luksctl doctor`. Reads only, and runs no KDF by itself.

The facts are gathered first; then each probe of two tables looks at them, and says what it finds and how to mend it.
A new thing to look for is a new function in one of the modules beside this one, and a line in its table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from luksctl.devices.tables import TableLine
from luksctl.devices.unit_states import UnitState
from luksctl.errors import (
    Degraded,
    DeviceError,
    Locked,
    LuksctlError,
    Maintenance,
    TpmReason,
    TpmRejected,
)
from luksctl.hints import Final
from luksctl.model.config import ConfiguredKey, Filesystem
from luksctl.model.observed import Luks2
from luksctl.node import doctor_keys, doctor_node, doctor_volume
from luksctl.node.check import WELL, NodeCheck, check
from luksctl.node.checked import SlotRecord, read_checked
from luksctl.node.expected import expected_is_readable
from luksctl.node.finding import Finding, KeyFacts, NodeFacts, Surroundings, VolumeFacts, Weight
from luksctl.node.node import Node
from luksctl.node.preview import Outlook, Preview, outlook, preview
from luksctl.node.report import read_report
from luksctl.node.sources import state_directory
from luksctl.value import frozen, replace

NodeProbe = Callable[[NodeFacts], Iterator[Finding]]
VolumeProbe = Callable[[NodeFacts, VolumeFacts], Iterator[Finding]]

NODE_PROBES: Final[tuple[NodeProbe, ...]] = (
    doctor_node.no_config,
    doctor_node.wrong_config,
    doctor_node.bad_meta,
    doctor_node.meta_behind,
    doctor_node.unreadable_expectations,
    doctor_node.old_library,
    doctor_node.unreadable_tables,
    doctor_node.check_timer,
)

VOLUME_PROBES: Final[tuple[VolumeProbe, ...]] = (
    doctor_volume.refused,
    doctor_keys.key_obstacles,
    doctor_keys.tried_now,
    doctor_volume.last_attempt,
    doctor_volume.closed,
    doctor_volume.not_mounted,
    doctor_volume.header_copies,
    doctor_volume.work_to_do,
    doctor_volume.missing_mkfs,
    doctor_volume.fighting_tables,
    doctor_volume.units_of_volume,
    doctor_keys.slots_nobody_configured,
    doctor_keys.out_of_sync,
    doctor_keys.stray_tokens,
    doctor_keys.not_proven_for_long,
)


@frozen
class Diagnosis:
    """All findings, the most urgent first. `checked` is what `--check` found, None without it."""

    findings: tuple[Finding, ...]
    maintenance: bool
    checked: NodeCheck | None = None

    @property
    def exit_code(self) -> int:
        """Return 0, 4 where a volume does not come up, 5 where something will break, 12 in maintenance."""
        if self.maintenance:
            return Maintenance.exit_code
        weights = {finding.weight for finding in self.findings}
        if Weight.BROKEN in weights:
            return Locked.exit_code
        return Degraded.exit_code if Weight.RISK in weights else WELL


def examine(node: Node, around: Surroundings, volumes: Sequence[str], *, with_check: bool = False) -> Diagnosis:
    """Look at the node and at `volumes`; with `with_check` every configured key is tried as well, which runs KDFs.

    What cannot be read becomes a finding.
    """
    checked = check(node, volumes, around.now_s) if with_check else None
    facts = replace(gather(node, around, volumes), checked=checked)
    found = [finding for probe in NODE_PROBES for finding in probe(facts)]
    for volume in facts.volumes:
        ours = [finding for probe in VOLUME_PROBES for finding in probe(facts, volume)]
        found += [replace(finding, volume=volume.name) for finding in ours]
    order = list(Weight)
    unique = dict.fromkeys(sorted(found, key=lambda finding: order.index(finding.weight)))
    return Diagnosis(tuple(unique), facts.known.waiting_for_config is not None, checked)


# ---- gathering ------------------------------------------------------------------------------------------------------


def gather(node: Node, around: Surroundings, volumes: Sequence[str]) -> NodeFacts:
    """Read everything that the probes look at."""
    known = outlook(node)
    directory = state_directory(node)
    records = () if directory is None else read_checked(directory)
    seen = tuple(_volume(node, known, volume, records) for volume in volumes)
    return NodeFacts(
        known=known,
        volumes=seen,
        now_s=int(around.now_s()),
        expected_is_readable=expected_is_readable(node.paths),
        units=_ask_systemd(around, seen),
        lines=_read_tables(around),
        library_problem=around.library_problem(),
        mkfs_problems=_mkfs_problems(around, seen),
    )


def _volume(node: Node, known: Outlook, volume: str, records: Sequence[SlotRecord]) -> VolumeFacts:
    seen = preview(known, volume)
    settings = node.settings.volume(volume)
    source = None if settings.mount_point is None else node.system.mounted_from(settings.mount_point)
    return VolumeFacts(
        seen=seen,
        settings=settings,
        report=read_report(node, volume),
        mounted_from=source,
        link=os.path.realpath(node.paths.volume_link(volume)),
        keys=tuple(_keys(node, seen)),
        records=tuple(entry for entry in records if entry.volume == volume),
    )


def _keys(node: Node, seen: Preview) -> Iterator[KeyFacts]:
    if seen.desired is None or seen.desired.encryption is None or not isinstance(seen.observed, Luks2):
        return
    memory_kib = node.system.memory_kib()
    for key in seen.desired.encryption.keys:
        obstacles = tuple(doctor_keys.in_header(seen.volume, key, seen.observed, memory_kib))
        if seen.observed.header.keyslot(key.slot) is not None:
            obstacles += tuple(_of_provider(node, seen.volume, key, seen.observed))
        yield KeyFacts(key, obstacles)


def _of_provider(node: Node, volume: str, key: ConfiguredKey, found: Luks2) -> Iterator[Finding]:
    """Ask the provider for the key, without trying it, and whether it knows why the key would not fit."""
    token = found.header.token(key.slot)
    try:
        provider = node.ports.provider(key)
        candidate = next(provider.recover(volume, key, None if token is None else token.json), None)
        if candidate is not None:
            candidate.close()
        # Of a lock to STATE only a real try could tell; what is behind it may know something all the same.
        behind = node.ports.provider(replace(key, lock_to_state=None))
        explained, fix = behind.explain_rejection(volume, key), None
    except TpmRejected as error:
        # Early in a boot is when it can be asked for: no fault.
        explained, fix = (None, None) if error.reason is TpmReason.PHASE_OVER else (error.cause, error.hint)
    except LuksctlError as error:
        explained, fix = error.cause, error.hint
    if explained is not None:
        yield doctor_keys.of_provider(volume, key, explained, fix)


def _ask_systemd(around: Surroundings, volumes: Sequence[VolumeFacts]) -> dict[str, UnitState] | None:
    names = [name for volume in volumes for name in doctor_volume.unit_names(volume)]
    try:
        return around.unit_states((*names, *doctor_node.CHECK_UNITS))
    except DeviceError:
        return None


def _read_tables(around: Surroundings) -> tuple[TableLine, ...] | None:
    try:
        return around.tables()
    except OSError:
        return None


def _mkfs_problems(around: Surroundings, volumes: Sequence[VolumeFacts]) -> dict[Filesystem, LuksctlError]:
    wanted = {volume.seen.desired.filesystem for volume in volumes if volume.seen.desired is not None}
    found = {filesystem: around.mkfs_problem(filesystem) for filesystem in sorted(wanted)}
    return {filesystem: problem for filesystem, problem in found.items() if problem is not None}
