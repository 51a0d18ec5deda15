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

from luksctl.devices.medium import flush, open_device, open_medium
from luksctl.devices.programs import Program, locate, run
from luksctl.errors import DeviceError, Refused
from luksctl.hints import Final, final
from luksctl.model.in_place import Extent
from luksctl.model.probe import Device, Range
from luksctl.units import KIB, MIB

E2FSCK: Final = Program("e2fsck", "e2fsprogs")
RESIZE2FS: Final = Program("resize2fs", "e2fsprogs")
XFS_REPAIR: Final = Program("xfs_repair", "xfsprogs")
MOUNT: Final = Program("mount", "mount")
UMOUNT: Final = Program("umount", "mount")
# Hours on a large and slow disk; whoever asked for this waits for it.
_TIMEOUT_S: Final = 24 * 3600.0
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
            run([locate(XFS_REPAIR), "-n", device.path], timeout_s=_TIMEOUT_S)
        elif not _needs_recovery(device):
            run([locate(E2FSCK), "-f", "-n", device.path], timeout_s=_TIMEOUT_S)

    def mend(self, device: Device, *, fully: bool) -> None:
        """Replay the journal and mend what is safe to, of an ext4 `fully` also what a cut left in the middle."""
        _as_long_as(device)
        if _ext_superblock(device) is not None:
            if fully or _needs_recovery(device):
                _e2fsck(device, *(("-f", "-y") if fully else ("-p",)))
        elif not device.image:
            _replay_xfs(device, self._run_dir)
        flush(device.path)

    def shrink(self, device: Device, size_bytes: int) -> None:
        """Have resize2fs make the filesystem end within `size_bytes`, and sync. Cut: half shrunk."""
        _e2fsck(device, "-f", "-p")  # resize2fs asks for it
        run([locate(RESIZE2FS), device.path, f"{size_bytes // KIB}k"], timeout_s=_TIMEOUT_S)
        _as_long_as(device)
        flush(device.path)

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
                    _write(fd, piece, target_bytes + done)
            os.fsync(fd)
        except OSError as error:
            raise DeviceError(
                f"{device.path} cannot be written: {error.strerror}", operation="move its head"
            ) from error
        finally:
            os.close(fd)

    def save(self, path: str, content: bytes) -> None:
        """Make a file of `content`, for nobody else to read, and sync it and its directory. Cut: none, or all of it."""
        temporary = f"{path}.new"
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(fd, content, 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
            flush(os.path.dirname(path))
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
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
        """Take the file away, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(path)


def _e2fsck(device: Device, *options: str) -> None:
    run([locate(E2FSCK), *options, device.path], timeout_s=_TIMEOUT_S, good=_MENDED)


def _replay_xfs(device: Device, directory: str) -> None:
    """Mount and unmount: the kernel alone replays the log of an xfs."""
    place = os.path.join(directory, "replay")
    os.makedirs(place, mode=0o700, exist_ok=True)
    run([locate(MOUNT), "-t", "xfs", "-o", "nosuid,nodev,noexec", device.path, place], timeout_s=_TIMEOUT_S)
    run([locate(UMOUNT), place], timeout_s=_TIMEOUT_S)
    os.rmdir(place)


def _as_long_as(device: Device) -> None:
    """Make an image file as long as the device is known to be: resize2fs cuts it off behind the filesystem."""
    if device.image and os.path.getsize(device.path) < device.size_bytes:
        os.truncate(device.path, device.size_bytes)


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


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
        text = run([locate(RESIZE2FS), "-P", device.path], timeout_s=_TIMEOUT_S)
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
