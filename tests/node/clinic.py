"""A node that is well, and what surrounds it, for doctor to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from luksctl.devices.tables import TableLine
from luksctl.devices.unit_states import UnitState
from luksctl.errors import DeviceError, LuksctlError
from luksctl.model.config import EPHEMERAL, STATE, Filesystem
from luksctl.node.check import check
from luksctl.node.doctor import Diagnosis, examine
from luksctl.node.finding import Finding, Surroundings
from luksctl.node.units import CHECK_SERVICE, CHECK_TIMER, mount_unit
from luksctl.value import replace
from tests.node.image_node import ImageNode, document, static

NOW = 1_800_000_000.0


class Bench:
    """A node that is well, and what surrounds it: STATE is open and mounted, EPHEMERAL a closed second volume."""

    def __init__(self, directory: Path) -> None:
        self.at = ImageNode(directory)
        self.at.format(STATE, {0: "first", 1: "second"})
        self.at.configure(document(STATE, static(0, "first"), static(1, "second")))
        self.at.open(STATE)
        self.at.follow_in_meta()
        check(self.at.node, (STATE,), lambda: NOW - 60)
        self.at.told.clear()
        self.units = {name: UnitState(name, "loaded", "active", "enabled") for name in self._unit_names()}
        self.lines: tuple[TableLine, ...] = ()
        self.mkfs: dict[Filesystem, LuksctlError] = {}
        self.library: LuksctlError | None = None

    def _unit_names(self) -> Iterator[str]:
        yield from (CHECK_TIMER, CHECK_SERVICE)
        for volume, point in ((STATE, self.at.state), (EPHEMERAL, self.at.ephemeral)):
            yield f"luksctl-open@{volume}.service"
            yield mount_unit(str(point))

    def examine(self, *volumes: str, with_check: bool = False) -> Diagnosis:
        """Let the doctor look at STATE, or at what is named."""
        around = Surroundings(
            tables=lambda: self.lines,
            unit_states=lambda names: {name: self.units[name] for name in names if name in self.units},
            mkfs_problem=self.mkfs.get,
            library_problem=lambda: self.library,
            now_s=lambda: NOW,
        )
        return examine(self.at.node, around, volumes or (STATE,), with_check=with_check)

    def unit(self, name: str, **changes: str) -> None:
        """Change how a unit is."""
        self.units[name] = replace(self.units[name], **changes)


def only(found: Diagnosis) -> Finding:
    """Return the one finding there is."""
    (finding,) = found.findings
    return finding


def header_uuid(bench: Bench) -> str:
    """Return the UUID in the header of STATE."""
    found = bench.at.node.ports.disks.find(STATE, bench.at.settings.volume(STATE), timeout_s=0)
    header = bench.at.node.ports.disks.header_copies(found).best  # type: ignore[arg-type]  # it is there
    assert header is not None
    return header.uuid


def no_mkfs(bench: Bench) -> None:
    """Take mkfs.ext4 away."""
    bench.mkfs[Filesystem.EXT4] = DeviceError("mkfs.ext4 is not installed", hint="apt-get install e2fsprogs")
