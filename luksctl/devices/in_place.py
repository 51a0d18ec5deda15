"""What stays on a device while it is encrypted in place: how far its filesystem reaches, and its head, moved and back.

Sizes are read from superblocks (ext4: Documentation/filesystems/ext4, "Super Block"; xfs: "XFS Algorithms & Data
Structures", "Superblocks"); what is wrong with a filesystem, its own programs say.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from contextlib import suppress

from luksctl.devices import shrinking
from luksctl.devices.medium import flush, open_device, open_medium
from luksctl.devices.programs import Program, locate, run
from luksctl.devices.saving import save_pieces, unfinished, write_fully
from luksctl.devices.shrinking import RESIZE2FS, TIMEOUT_S
from luksctl.errors import DeviceError, Refused
from luksctl.hints import Final, final
from luksctl.model.in_place import Extent
from luksctl.model.probe import Device, Range
from luksctl.units import KIB, MIB

E2FSCK: Final = Program("e2fsck", "e2fsprogs")
XFS_REPAIR: Final = Program("xfs_repair", "xfsprogs")
MOUNT: Final = Program("mount", "mount")
UMOUNT: Final = Program("umount", "mount")
_CHUNK_BYTES: Final = 4 * MIB
_EXT_MAGIC: Final = 0xEF53
_EXT_NEEDS_RECOVERY: Final = 0x4  # INCOMPAT_RECOVER
_EXT_64BIT: Final = 0x80
# e2fsck(8): 1 and 2 are for errors that were corrected.
_MENDED: Final = (0, 1, 2, 3)


@final
class SystemInPlaceDisks:
    """The InPlaceDisks port over the filesystems' own programs; `run_dir` is where an xfs is mounted for a moment."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir

    def extent(self, device: Device) -> Extent:
        """Say how far the filesystem reaches; Refused where it is neither ext4 nor xfs. Writes nothing."""
        ext = _ext(device)
        if ext is not None:
            return ext
        xfs = _xfs(device)
        if xfs is None:
            raise Refused(f"{device.path} holds neither ext4 nor xfs")
        return xfs

    def check(self, device: Device) -> None:
        """Raise DeviceError where the filesystem is not sound; one whose journal is to be replayed is not looked at."""
        if _ext(device) is None:
            run([locate(XFS_REPAIR), "-n", device.path], timeout_s=TIMEOUT_S)
        elif not _needs_recovery(device):
            run([locate(E2FSCK), "-f", "-n", device.path], timeout_s=TIMEOUT_S)

    def replay(self, device: Device) -> None:
        """Replay the journal, and sync; an ext4 is mended by it, where that is safe. Cut: some of it is replayed."""
        if _ext_superblock(device) is not None:
            if _needs_recovery(device):
                run([locate(E2FSCK), "-p", device.path], timeout_s=TIMEOUT_S, good=_MENDED)
        elif not device.image:
            _replay_xfs(device, self._run_dir)
        flush(device.path)

    def rehearse(self, device: Device, size_bytes: int, saved: str) -> str:
        """Save what `shrink` will overwrite to the file `saved`; see shrinking.py, also for the others."""
        scratch = os.path.join(self._run_dir, os.path.basename(saved))
        return shrinking.rehearse(device, size_bytes, scratch, saved)

    def shrink(self, device: Device, size_bytes: int) -> None:
        """Have resize2fs make the filesystem end within `size_bytes`, and sync. Cut: half shrunk."""
        shrinking.shrink(device, size_bytes)

    def put_back(self, device: Device, saved: str, sha256: str) -> str:
        """Undo a shrinking that was cut by what was saved before it, and return what was done. Cut: do it again."""
        return shrinking.put_back(device, saved, sha256)

    def digest(self, device: Device, part: Range) -> str:
        """Return the SHA-256 of bytes on the medium; what was written to the device is synced first."""
        flush(device.path)
        found = hashlib.sha256()
        with open_medium(device.path) as medium:
            for piece in medium.chunks(part):
                found.update(piece)
        return found.hexdigest()

    def copy(self, device: Device, source: Range, target_bytes: int) -> None:
        """Copy bytes within the device, and sync. Cut: some of them are copied."""
        fd = open_device(device.path, os.O_WRONLY | (0 if device.image else os.O_EXCL))
        try:
            with open_medium(device.path) as medium:
                for done in range(0, source.size_bytes, _CHUNK_BYTES):
                    piece = medium.read(source.offset_bytes + done, min(_CHUNK_BYTES, source.size_bytes - done))
                    write_fully(fd, piece, target_bytes + done)
            os.fsync(fd)
        except OSError as error:
            raise DeviceError(
                f"{device.path} cannot be written: {error.strerror}", operation="move its head"
            ) from error
        finally:
            os.close(fd)

    def save(self, path: str, content: bytes) -> None:
        """Make a file of `content`, for nobody else to read, and sync it and its directory. Cut: none, or all of it."""
        try:
            save_pieces(path, (content,))
        except OSError as error:
            raise DeviceError(f"{path} cannot be written: {error.strerror}", operation="save the header") from error

    def make_scratch(self, scratch: Device) -> None:
        """Make the file anew: zeros, for nobody else to read."""
        try:
            os.makedirs(os.path.dirname(scratch.path), mode=0o755, exist_ok=True)
            self.drop(scratch.path)
            fd = os.open(scratch.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, scratch.size_bytes)
            finally:
                os.close(fd)
        except OSError as error:
            raise DeviceError(
                f"{scratch.path} cannot be made: {error.strerror}", operation="make the header"
            ) from error

    def drop(self, path: str) -> None:
        """Take the file away, if it is there, and what a cut left of making it."""
        for name in (path, unfinished(path)):
            with suppress(FileNotFoundError):
                os.unlink(name)


def _replay_xfs(device: Device, directory: str) -> None:
    """Mount and unmount: the kernel alone replays the log of an xfs."""
    place = os.path.join(directory, "replay")
    os.makedirs(place, mode=0o700, exist_ok=True)
    run([locate(MOUNT), "-t", "xfs", "-o", "nosuid,nodev,noexec", device.path, place], timeout_s=TIMEOUT_S)
    run([locate(UMOUNT), place], timeout_s=TIMEOUT_S)
    os.rmdir(place)


def _ext_superblock(device: Device) -> bytes | None:
    with open_medium(device.path) as medium:
        block = medium.read(KIB, KIB)
    if len(block) < KIB or struct.unpack_from("<H", block, 0x38)[0] != _EXT_MAGIC:
        return None
    return block


def _needs_recovery(device: Device) -> bool:
    block = _ext_superblock(device)
    return block is not None and bool(struct.unpack_from("<I", block, 0x60)[0] & _EXT_NEEDS_RECOVERY)


def _ext(device: Device) -> Extent | None:
    block = _ext_superblock(device)
    if block is None:
        return None
    blocks, log_block = struct.unpack_from("<I", block, 0x4)[0], struct.unpack_from("<I", block, 0x18)[0]
    if struct.unpack_from("<I", block, 0x60)[0] & _EXT_64BIT:
        blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32
    block_bytes = KIB << log_block
    return Extent("ext4", blocks * block_bytes, _smallest(device, block_bytes))


def _smallest(device: Device, block_bytes: int) -> int | None:
    """Return what resize2fs thinks the filesystem can be shrunk to, None where it does not say."""
    try:
        text = run([locate(RESIZE2FS), "-P", device.path], timeout_s=TIMEOUT_S)
    except DeviceError:
        return None
    found = re.search(r":\s*(\d+)\s*$", text)
    return None if found is None else int(found[1]) * block_bytes


def _xfs(device: Device) -> Extent | None:
    with open_medium(device.path) as medium:
        block = medium.read(0, 512)
    if not block.startswith(b"XFSB"):
        return None
    block_bytes, blocks = struct.unpack_from(">IQ", block, 4)
    return Extent("xfs", block_bytes * blocks)
