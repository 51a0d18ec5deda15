"""What `luksctl doctor` finds, and the facts that it looks at: gathered first, so that every probe is pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from luksctl.devices.tables import TableLine
from luksctl.devices.unit_states import UnitState
from luksctl.errors import LuksctlError
from luksctl.model.config import ConfiguredKey, Filesystem, VolumeSettings
from luksctl.model.header import LuksHeader
from luksctl.model.observed import FilesystemFound, Luks2, Mapping
from luksctl.model.probe import Device
from luksctl.node.check import NodeCheck
from luksctl.node.checked import SlotRecord
from luksctl.node.preview import Outlook, Preview
from luksctl.node.report import Report
from luksctl.value import frozen


class Weight(StrEnum):
    """How much a finding matters; the most urgent first."""

    BROKEN = "broken"  # this is why a volume does not open, or does not come up
    RISK = "risk"  # it works, and will stop to: at the next boot, or when something else fails
    NOTE = "note"  # good to know; changes no exit code


@frozen
class Finding:
    """One thing that is not as it should be, and the shortest way to mend it (usually a command)."""

    weight: Weight
    what: str
    fix: str | None = None
    volume: str | None = None
    slot: int | None = None


@frozen
class KeyFacts:
    """One configured key and why it cannot serve, as far as that is known without a KDF."""

    key: ConfiguredKey
    obstacles: tuple[Finding, ...] = ()


@frozen
class VolumeFacts:
    """What is known of one volume; `records` is what the last check noted about its slots.

    `mounted_from` is what is mounted at its mount point, `link` what should be.
    """

    seen: Preview
    settings: VolumeSettings
    report: Report | None
    mounted_from: str | None
    link: str
    keys: tuple[KeyFacts, ...] = ()
    records: tuple[SlotRecord, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the volume."""
        return self.seen.volume

    @property
    def luks(self) -> Luks2 | None:
        """Return the LUKS2 volume that was found, or None."""
        return self.seen.observed if isinstance(self.seen.observed, Luks2) else None

    @property
    def header(self) -> LuksHeader | None:
        """Return its header."""
        return None if self.luks is None else self.luks.header

    @property
    def mapping(self) -> Mapping | None:
        """Return its mapping, where it is open."""
        return None if self.luks is None else self.luks.mapping

    @property
    def device(self) -> Device | None:
        """Return the device that answers to the volume, where exactly one does."""
        return getattr(self.seen.observed, "device", None)

    @property
    def is_up(self) -> bool:
        """Tell whether the volume is open, or a plain filesystem that may be mounted."""
        plain = isinstance(self.seen.observed, FilesystemFound) and self.seen.plan.refusal is None
        return plain or self.mapping is not None

    @property
    def weight(self) -> Weight:
        """Return how much it matters that something keeps this volume from coming up."""
        return Weight.RISK if self.is_up else Weight.BROKEN


@frozen
class NodeFacts:
    """What is known of the node. `checked` is what trying the keys showed, None where nobody asked for that.

    `units` is None where systemd does not answer, `lines` (of fstab and crypttab) where they cannot be read.
    """

    known: Outlook
    volumes: tuple[VolumeFacts, ...]
    now_s: int
    expected_is_readable: bool
    units: dict[str, UnitState] | None
    lines: tuple[TableLine, ...] | None
    library_problem: LuksctlError | None
    mkfs_problems: dict[Filesystem, LuksctlError]
    checked: NodeCheck | None = None


@frozen
class Surroundings:
    """What doctor asks of the machine beyond the ports of the pipe; wiring joins the real ones.

    `tables` reads fstab and crypttab, `unit_states` asks systemd.
    """

    tables: Callable[[], tuple[TableLine, ...]]
    unit_states: Callable[[tuple[str, ...]], dict[str, UnitState]]
    mkfs_problem: Callable[[Filesystem], LuksctlError | None]
    library_problem: Callable[[], LuksctlError | None]
    now_s: Callable[[], float]
