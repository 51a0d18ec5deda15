"""How much room an encryption in place takes, and what it needs of the machine's disks."""

from __future__ import annotations

from luksctl.hints import Final, Protocol
from luksctl.model.probe import Device, Range
from luksctl.units import MIB
from luksctl.value import frozen

# Where the data of a volume begins, as Talos and cryptsetup have it. libcryptsetup moves everything by as much, and
# keeps the head, as long again, behind it until the end.
SHIFT_BYTES: Final = 16 * MIB
ROOM_BYTES: Final = 2 * SHIFT_BYTES
# On a smaller device libcryptsetup (2.6.1) writes the first hot zone over the copy of the head that it reads from.
SMALLEST_BYTES: Final = 3 * SHIFT_BYTES
# Filesystems that can be made smaller while they are not mounted.
SHRINKABLE: Final = frozenset({"ext2", "ext3", "ext4"})
# Filesystems whose size is understood, so that it can be told that they leave room.
MEASURED: Final = SHRINKABLE | {"xfs"}


@frozen
class Extent:
    """How far a filesystem reaches on its device; `smallest_bytes` is what it can be shrunk to, None if to nothing."""

    kind: str
    size_bytes: int
    smallest_bytes: int | None = None


class InPlaceDisks(Protocol):
    """Filesystems that stay while what is below them changes, and heads that are moved. All raise DeviceError."""

    def extent(self, device: Device) -> Extent:
        """Say how far the filesystem reaches. Refused where its kind is none of MEASURED. Writes nothing."""

    def check(self, device: Device) -> None:
        """Raise DeviceError where the filesystem is not sound; one with a journal to replay counts as sound."""

    def replay(self, device: Device) -> None:
        """Replay the journal, and sync; what is not sound is left to `check`. Cut: replay it again."""

    def rehearse(self, device: Device, size_bytes: int, saved: str) -> str:
        """Save what `shrink` will overwrite to the file `saved`, sync it, and return its SHA-256.

        Nothing of the device is written. Refused where there is no room for it. Cut: no such file, or all of it.
        """

    def shrink(self, device: Device, size_bytes: int) -> None:
        """Make the filesystem end within `size_bytes`, and sync. Cut: half shrunk; `put_back` undoes it."""

    def put_back(self, device: Device, saved: str, sha256: str) -> str:
        """Write back what `rehearse` saved, sync, read it back, and return what was done. Cut: do it again.

        Refused, and nothing is written, where the file is not there, or has another SHA-256.
        """

    def digest(self, device: Device, part: Range) -> str:
        """Return the SHA-256 of bytes on the medium, in hexadecimal."""

    def copy(self, device: Device, source: Range, target_bytes: int) -> None:
        """Copy bytes within the device to offset `target_bytes`, and sync."""

    def save(self, path: str, content: bytes) -> None:
        """Make a file of `content`, for nobody else to read, and sync it. Cut: none, or all of it."""

    def make_scratch(self, scratch: Device) -> None:
        """Make the file in memory anew: zeros, for nobody else to read."""

    def drop(self, path: str) -> None:
        """Take the file away, if it is there."""
