"""Where META, STATE and EPHEMERAL lie on a disk: pure arithmetic."""

from __future__ import annotations

from luksctl.errors import Refused
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, META, META_SIZE_BYTES, STATE, STATE_SIZE_BYTES
from luksctl.units import KIB, MIB, format_size
from luksctl.value import frozen

# "Linux filesystem data", which Talos gives all three (talos-formats 1.1).
LINUX_FILESYSTEM_TYPE: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
# Both ends of a partition: dm-crypt refuses 4096-byte sectors on a partition that does not end on such a boundary, and
# partitioning programs end the last one wherever the backup table begins.
ALIGNMENT_BYTES: Final = 1 * MIB
# META and STATE, and an EPHEMERAL that holds a LUKS2 header and the smallest xfs that mkfs.xfs supports.
MINIMUM_DISK_BYTES: Final = 512 * MIB

_GPT_ENTRIES_BYTES: Final = 16 * KIB  # 128 entries of 128 bytes, before the backup header in the last sector


@frozen
class PlannedPartition:
    """One partition to be: number, GPT name, place."""

    number: int
    name: str
    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """Return the offset of the first byte after the partition."""
        return self.offset_bytes + self.size_bytes


def layout(disk_size_bytes: int, sector_bytes: int = 512) -> tuple[PlannedPartition, ...]:
    """Return META, STATE and EPHEMERAL on a disk of that size; Refused for a disk below MINIMUM_DISK_BYTES."""
    if disk_size_bytes < MINIMUM_DISK_BYTES:
        there, least = format_size(disk_size_bytes), format_size(MINIMUM_DISK_BYTES)
        raise Refused(f"the disk has {there}, at least {least} are needed", operation="install")
    usable_end = disk_size_bytes - _GPT_ENTRIES_BYTES - sector_bytes
    end = usable_end - usable_end % ALIGNMENT_BYTES
    meta = PlannedPartition(1, META, ALIGNMENT_BYTES, META_SIZE_BYTES)
    state = PlannedPartition(2, STATE, meta.end_bytes, STATE_SIZE_BYTES)
    return meta, state, PlannedPartition(3, EPHEMERAL, state.end_bytes, end - state.end_bytes)
