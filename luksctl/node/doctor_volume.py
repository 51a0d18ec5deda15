"""Probes of one volume: what keeps it from coming up, its header copies, its mount, its units, its rivals."""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.devices.tables import TableLine
from luksctl.errors import ConfigError, Maintenance
from luksctl.model.config import ByLabel
from luksctl.model.header import Copies
from luksctl.model.observed import Blank, FilesystemFound, Unfinished
from luksctl.model.step import OpenVolume, ProveAnyKey, RepairHeader, RepairMeta, WriteStateEncryption
from luksctl.node.finding import Finding, NodeFacts, VolumeFacts, Weight
from luksctl.node.units import mount_unit

# Each of these has a finding of its own, with the same cure.
_SAID_ELSEWHERE = OpenVolume | RepairHeader | RepairMeta | ProveAnyKey | WriteStateEncryption


def refused(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find what the next boot would refuse; a missing config is the node's, not each volume's."""
    refusal = volume.seen.plan.refusal
    if refusal is not None and not isinstance(refusal, Maintenance | ConfigError):
        yield Finding(volume.weight, refusal.cause, refusal.hint)


def last_attempt(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find what the last attempt of this boot ended with, and what it went on without."""
    report, refusal = volume.report, volume.seen.plan.refusal
    if report is None:
        return
    explained = refusal is not None and report.problem is not None and refusal.cause in report.problem
    if report.problem is not None and not volume.is_up and not explained:
        yield Finding(Weight.BROKEN, f"the last attempt ended with: {report.problem}", report.hint)
    for note in report.notes:
        # What was left undone has findings of its own (keyslots, META); a note alone may be good news.
        yield Finding(Weight.NOTE, f"the last attempt noted: {note}", f"luksctl plan {volume.name}")


def closed(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find a volume that would be opened, and is not, where nothing is known to stand in the way."""
    tried = volume.report is not None and volume.report.problem is not None
    if volume.luks is not None and volume.mapping is None and volume.seen.plan.refusal is None and not tried:
        yield Finding(Weight.BROKEN, "it is closed", f"luksctl boot {volume.name}")


def not_mounted(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find a mount point with nothing, or with something else, on it."""
    point = volume.settings.mount_point
    if point is None or volume.mounted_from == volume.link:
        return
    if volume.mounted_from is not None:
        yield Finding(Weight.BROKEN, f"something else is mounted at {point}: {volume.mounted_from}", f"umount {point}")
    elif volume.is_up:
        yield Finding(Weight.BROKEN, f"it is not mounted at {point}", f"systemctl start {mount_unit(point)}")


def header_copies(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find header copies that are damaged or differ."""
    found = volume.luks
    if found is None or found.copies.state is Copies.EQUAL:
        return
    problems = [copy.problem for copy in (found.copies.first, found.copies.second) if copy and copy.problem]
    because = f" ({'; '.join(problems)})" if problems else ""
    what = f"the header copies do not agree: {found.copies.state}{because}; one more failure would lose the volume"
    yield Finding(Weight.RISK, what, f"luksctl boot {volume.name}")


def work_to_do(_: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find a volume that is not what the config says."""
    steps = [step for step in volume.seen.plan.steps if not isinstance(step, _SAID_ELSEWHERE)]
    if not steps:
        return
    if isinstance(volume.seen.observed, Blank | Unfinished):
        yield Finding(Weight.BROKEN, "it is not formatted yet", f"luksctl boot {volume.name}")
    else:
        number = f"{len(steps)} step{'s' if len(steps) > 1 else ''}"
        yield Finding(Weight.RISK, f"it is not as configured: {number} to do", f"luksctl plan {volume.name}")


def missing_mkfs(facts: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find a filesystem that could not be made here; it matters most while there is none yet."""
    desired = volume.seen.desired
    problem = None if desired is None else facts.mkfs_problems.get(desired.filesystem)
    if problem is None:
        return
    weight = Weight.BROKEN if isinstance(volume.seen.observed, Blank | Unfinished) else Weight.RISK
    yield Finding(weight, f"its filesystem could not be made: {problem.cause}", problem.hint)


# ---- fstab and crypttab ---------------------------------------------------------------------------------------------


def fighting_tables(facts: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find entries of fstab and crypttab that open or mount the same; with noauto nothing acts on them by itself."""
    for line in facts.lines or ():
        reason = _fights(line, volume) if line.automatic else None
        if reason is not None:
            what = f"{line.file}, line {line.number} fights with luksctl: {reason}"
            yield Finding(volume.weight, what, f"take line {line.number} out of {line.file}")


def _fights(line: TableLine, volume: VolumeFacts) -> str | None:
    desired, point = volume.seen.desired, volume.settings.mount_point
    if desired is not None and line.target == desired.mapped_name:
        return f"it opens something as {line.target} as well"
    if point is not None and line.target == point:
        return f"it mounts something at {point} as well"
    if line.device is not None and line.device in _nodes(volume):
        return f"it takes {line.device} for {line.target}"
    if line.source.lower() in {name.lower() for name in _names(volume)}:
        return f"it takes {line.source} for {line.target}"
    return None


def _nodes(volume: VolumeFacts) -> set[str]:
    mapped = () if volume.mapping is None else (volume.link,)
    return {*mapped, *(() if volume.device is None else (volume.device.path,))}


def _names(volume: VolumeFacts) -> Iterator[str]:
    """Yield every way in which a table may name the device, the filesystem or the mapping of the volume."""
    location, found = volume.settings.location, volume.seen.observed
    tags = []
    if isinstance(location, ByLabel) and location.disk is None:
        tags.append(("PARTLABEL", location.label))
    if volume.device is not None:
        yield volume.device.path
        tags.append(("PARTUUID", volume.device.partuuid))
    if volume.header is not None:
        tags += [("UUID", volume.header.uuid), ("LABEL", volume.header.label)]
    inside = None if volume.mapping is None else volume.mapping.signature
    signature = found.signature if isinstance(found, FilesystemFound) else inside
    if signature is not None:
        tags += [("UUID", signature.uuid), ("LABEL", signature.label)]
    for tag, value in tags:
        if value:
            yield f"{tag}={value}"
            yield f"/dev/disk/by-{tag.lower()}/{value}"
    if volume.seen.desired is not None:
        yield f"/dev/mapper/{volume.seen.desired.mapped_name}"


# ---- units ----------------------------------------------------------------------------------------------------------


def unit_names(volume: VolumeFacts) -> tuple[str, ...]:
    """Return the units that bring the volume up: what opens it, and what mounts it."""
    point = volume.settings.mount_point
    opening = f"luksctl-open@{volume.name}.service"
    return (opening,) if point is None else (opening, mount_unit(point))


def units_of_volume(facts: NodeFacts, volume: VolumeFacts) -> Iterator[Finding]:
    """Find units that are not there, not enabled, or that failed."""
    if facts.units is None:
        return
    states = [(name, facts.units.get(name)) for name in unit_names(volume)]
    absent = [name for name, state in states if state is None or not state.present or state.file == "disabled"]
    if absent:
        what = f"systemd does not bring it up at a boot: {', '.join(absent)} not there or not enabled"
        yield Finding(Weight.RISK, what, "luksctl enable")
    for name, state in states:
        if state is not None and state.active == "failed":
            yield Finding(volume.weight, f"{name} failed", f"journalctl -b -u {name}")
