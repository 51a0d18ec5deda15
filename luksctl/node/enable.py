"""Write everything systemd needs to open and mount the volumes at every boot, and take exactly that back.

Below `root`: the units in etc/systemd/system (each begins with MARK), the links of local-fs.target and timers.target,
the record of what is expected to be encrypted, and the directories under the mount points. Nothing else is touched. Cut
anywhere: run it again; units without links do nothing yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from luksctl.devices.mountpoints import MountedOver, NotSealable, Prepared, Sealed
from luksctl.errors import DeviceError, Refused
from luksctl.hints import Final, Protocol
from luksctl.model.config import Settings
from luksctl.node import guard
from luksctl.node.expected import write_expected
from luksctl.node.files import read_file, replace_file, sync_directory
from luksctl.node.node import Paths
from luksctl.node.units import (
    CHECK_TIMER,
    LOCAL_FS,
    MARK,
    TIMERS,
    UnitFile,
    check_units,
    mount_unit,
    reencrypt_template,
    trial_unit,
    unit_files,
)
from luksctl.value import frozen

_UNITS: Final = "/etc/systemd/system"
_TARGETS: Final = (LOCAL_FS, TIMERS)


class Host(Protocol):
    """What enable and disable do beyond writing files."""

    def prepare(self, path: str) -> Prepared:
        """Make the directory under a mount point and seal it; DeviceError where it is not empty."""

    def restore(self, path: str) -> None:
        """Make that directory an ordinary one again."""

    def mounted(self, path: str) -> bool:
        """Tell whether something is mounted at exactly `path`."""

    def reload_units(self) -> None:
        """Have systemd read its unit files again."""

    def start_unit(self, unit: str) -> None:
        """Start a unit and wait for it; DeviceError with systemd's words when it fails."""

    def stop_unit(self, unit: str) -> None:
        """Stop a unit and wait for it; DeviceError with systemd's words when it fails."""


@frozen
class Target:
    """Where to write: `root` is empty for the running system.

    `program` is the command line of the hook there, `command` that of luksctl itself, for the timer that checks keys.
    """

    settings: Settings
    paths: Paths
    program: tuple[str, ...]
    root: str = ""
    command: tuple[str, ...] = ()

    @property
    def mount_points(self) -> tuple[str, ...]:
        """Return the mount points of all volumes, STATE first."""
        found = (volume.mount_point for _, volume in self.settings.volumes)
        return tuple(path for path in found if path is not None)


@dataclass(slots=True)
class Outcome:
    """What was written and removed; `problems` are what is less safe, or not running, than it should be."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def enable(target: Target, host: Host, *, encrypted: tuple[str, ...] | None) -> Outcome:
    """Write it all; `encrypted` None leaves the record of what is expected as it is.

    Refused, before the first write, where a file of the same name is not ours. DeviceError where the directory under
    a mount point is not empty.
    """
    outcome = Outcome()
    planned = _planned(target)
    _refuse_foreign(target, (*planned, *guard.unit(target.mount_points)))
    if encrypted is not None:
        path = target.root + target.paths.expected_encrypted
        _make_directory(os.path.dirname(path))
        write_expected(path, encrypted)
        outcome.written.append(path)
    units = (*planned, *_seal(target, host, outcome))
    for name in _TARGETS:
        _make_directory(_wants(target, name))
    for unit in units:
        path = f"{target.root}{_UNITS}/{unit.name}"
        replace_file(path, unit.text.encode(), mode=0o644)
        outcome.written.append(path)
    names = {unit.name for unit in units}
    outcome.removed += _remove_units(target, keep=names)
    for unit in units:
        _link(f"{_wants(target, unit.target)}/{unit.name}", f"../{unit.name}", wanted=unit.wanted)
    for name in _TARGETS:
        sync_directory(_wants(target, name))
    if target.root:
        outcome.notes += _missing_programs(target)
    else:
        host.reload_units()
    return outcome


def _planned(target: Target) -> tuple[UnitFile, ...]:
    units = unit_files(target.settings, target.paths, target.program)
    if not target.command:
        return units
    services = (trial_unit(target.command), reencrypt_template(target.command))
    return (*units, *check_units(target.settings, target.command), *services)


def _missing_programs(target: Target) -> Iterator[str]:
    for path in dict.fromkeys(word for word in (*target.program, *target.command) if os.path.isabs(word)):
        if not os.path.lexists(target.root + path):
            yield f"{path} is not there below {target.root} yet, and the units start it"


def start(target: Target, host: Host, outcome: Outcome) -> None:
    """Mount the volumes now; one that does not is a problem in `outcome`, and the boot goes on trying.

    The timer is started first: it proves nothing yet, and runs whatever becomes of the volumes.
    """
    timer = (CHECK_TIMER,) if target.command else ()
    for unit in (*timer, *map(mount_unit, target.mount_points)):
        try:
            host.start_unit(unit)
        except DeviceError as error:
            outcome.problems.append(f"{unit} did not start: {error.cause}")
            if unit != CHECK_TIMER:
                return


def disable(target: Target, host: Host) -> Outcome:
    """Remove what `enable` wrote; volumes stay open and mounted until the next boot."""
    outcome = Outcome()
    guarded = guard.active(target.root, target.mount_points, host.mounted)
    if not target.root and CHECK_TIMER in _ours(target):
        host.stop_unit(CHECK_TIMER)  # systemd would go on with a timer whose file is gone
    outcome.removed += _remove_units(target, keep=set())
    path = target.root + target.paths.expected_encrypted
    if os.path.lexists(path):
        os.unlink(path)
        outcome.removed.append(path)
    for mount_point in target.mount_points:
        if guarded or (not target.root and host.mounted(mount_point)):
            outcome.notes.append(f"{mount_point} is mounted over, so the directory below it was left as it is")
        else:
            host.restore(target.root + mount_point)
    if not guarded:
        outcome.removed += guard.remove_directories(target.root, target.mount_points)
    if not target.root:
        host.reload_units()
    return outcome


# ---- mount points ---------------------------------------------------------------------------------------------------


def _seal(target: Target, host: Host, outcome: Outcome) -> tuple[UnitFile, ...]:
    """Seal the directories; return the unit of the guard where it has to stand in for a flag."""
    if not target.root and guard.active(target.root, target.mount_points, host.mounted):
        outcome.notes.append("the mount points are guarded by a read-only bind mount already")
        guard.make_directories(target.root, target.mount_points)  # settings may name others than those it shows
        return guard.unit(target.mount_points)
    unsealed: list[NotSealable] = []
    covered: list[str] = []
    for mount_point in target.mount_points:
        match host.prepare(target.root + mount_point):
            case Sealed(path):
                outcome.sealed.append(path)
            case NotSealable() as refused:
                unsealed.append(refused)
            case MountedOver(path):
                covered.append(path)
                outcome.notes.append(f"{path} is mounted, so the directory below it could not be looked at")
    return _guard(target, unsealed, covered, outcome) if unsealed else ()


def _guard(target: Target, unsealed: list[NotSealable], covered: list[str], outcome: Outcome) -> tuple[UnitFile, ...]:
    """Let a read-only mount stand in for the flag, where that hides nothing; else say what is less safe."""
    reason = unsealed[0].reason
    if not covered and guard.possible(target.root, target.mount_points):
        outcome.written += guard.make_directories(target.root, target.mount_points)
        outcome.notes.append(f"{reason}: {guard.parent_of(target.mount_points)} is guarded by a read-only bind mount")
        return guard.unit(target.mount_points)
    paths = ", ".join(refused.path for refused in unsealed)
    obstacle = (
        f"a read-only mount would hide {', '.join(covered)}, which is in use; enable again before it is mounted"
        if covered
        else "the mount points do not share a directory of their own that a read-only mount could cover"
    )
    outcome.problems.append(f"root could write below {paths} while the volume is locked: {reason}, and {obstacle}")
    return ()


# ---- files ----------------------------------------------------------------------------------------------------------


def _refuse_foreign(target: Target, units: tuple[UnitFile, ...]) -> None:
    for unit in units:
        path = f"{target.root}{_UNITS}/{unit.name}"
        if os.path.islink(path) or not _is_ours(path):
            raise Refused(f"{path} was not written by luksctl; nothing was changed", hint="move it away, and try again")


def _is_ours(path: str) -> bool:
    text = read_file(path)
    return text is None or text.startswith(MARK.encode())


def _ours(target: Target) -> Iterator[str]:
    directory = f"{target.root}{_UNITS}"
    if not os.path.isdir(directory):
        return
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        if os.path.isfile(path) and not os.path.islink(path) and _is_ours(path):
            yield name


def _remove_units(target: Target, *, keep: set[str]) -> Iterator[str]:
    for name in _ours(target):
        if name not in keep:
            for wanting in _TARGETS:
                _link(f"{_wants(target, wanting)}/{name}", f"../{name}", wanted=False)
            os.unlink(f"{target.root}{_UNITS}/{name}")
            yield f"{target.root}{_UNITS}/{name}"


def _link(path: str, destination: str, *, wanted: bool) -> None:
    """Make the link, or remove it; a link that leads elsewhere is replaced or left alone."""
    present = os.path.islink(path)
    if wanted and not (present and os.readlink(path) == destination):
        if present:
            os.unlink(path)
        os.symlink(destination, path)
    elif not wanted and present and os.readlink(path) == destination:
        os.unlink(path)


def _wants(target: Target, name: str) -> str:
    """Return the directory with the links to what the target `name` wants."""
    return f"{target.root}{_UNITS}/{name}.wants"


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        raise DeviceError(f"{path} cannot be made: {error.strerror}") from error
