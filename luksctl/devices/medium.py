"""Reading what is on the medium, not what the page cache remembers; and syncing to it.

A block device is read with O_DIRECT: the kernel then writes back dirty pages of the range and reads from the device.
Image files are read after their clean pages were dropped (posix_fadvise); what another process has written and not
synced is still seen. Nothing here writes.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.errors import DeviceError, DeviceMissing
from luksctl.hints import Final, final
from luksctl.model.probe import Range, blank_ranges
from luksctl.units import MIB

_CHUNK_BYTES: Final = MIB
_ZEROS: Final = bytes(_CHUNK_BYTES)
_BLKSSZGET: Final = 0x1268  # linux/fs.h, _IO(0x12, 104): the logical sector size, an int
_FILE_SECTOR_BYTES: Final = 512


@final
class Medium:
    """A block device or image file opened for reading; made by `open_medium`.

    `cache_reason` is None when reads come from the medium, else it says why they may come from the page cache.
    """

    def __init__(self, path: str, fd: int, *, block: bool) -> None:
        self.path = path
        self.size_bytes = os.lseek(fd, 0, os.SEEK_END)  # for block devices too, and alike on every architecture
        self.sector_bytes = _logical_sector_bytes(fd) if block else _FILE_SECTOR_BYTES
        self.cache_reason: str | None = None if block else "image files are read through the page cache"
        self._fd = fd
        self._buffer = mmap.mmap(-1, _CHUNK_BYTES)  # page-aligned, as O_DIRECT wants it
        if block:
            self._go_direct()

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return the bytes there, fewer at the end of the device; DeviceError where the device cannot be read."""
        return b"".join(self.chunks(Range(offset_bytes, size_bytes)))

    def chunks(self, wanted: Range) -> Iterator[bytes]:
        """Yield the bytes of the range in pieces of up to 1 MiB; ends at the end of the device."""
        position = wanted.offset_bytes
        end = min(wanted.offset_bytes + wanted.size_bytes, self.size_bytes)
        while position < end:
            start = position - position % self.sector_bytes
            stop = min(start + _CHUNK_BYTES, -(-end // self.sector_bytes) * self.sector_bytes)
            count = self._fill(start, stop - start)
            piece = self._buffer[position - start : min(count, end - start)]
            if not piece:
                raise DeviceError(f"{self.path} ends at byte {start + count}, before its size of {self.size_bytes}")
            yield piece
            position += len(piece)

    def first_nonzero(self, ranges: tuple[Range, ...]) -> int | None:
        """Return the offset of the first byte in `ranges` that is not zero, or None; stops reading at it."""
        for wanted in ranges:
            position = wanted.offset_bytes
            for piece in self.chunks(wanted):
                if piece != _ZEROS[: len(piece)]:
                    return position + len(piece) - len(piece.lstrip(b"\0"))
                position += len(piece)
        return None

    def close(self) -> None:
        """Give up the buffer; the descriptor belongs to `open_medium`."""
        self._buffer.close()

    def _fill(self, offset_bytes: int, size_bytes: int) -> int:
        try:
            with memoryview(self._buffer) as whole, whole[:size_bytes] as part:
                return self._pread(part, offset_bytes)
        except OSError as error:
            raise DeviceError(
                f"{self.path} cannot be read at byte {offset_bytes}: {error.strerror}", operation="read"
            ) from error

    def _pread(self, part: memoryview, offset_bytes: int) -> int:
        if self.cache_reason is None:
            try:
                return os.preadv(self._fd, [part], offset_bytes)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._go_cached("the device refuses to be read with O_DIRECT")
        os.posix_fadvise(self._fd, offset_bytes, len(part), os.POSIX_FADV_DONTNEED)
        return os.preadv(self._fd, [part], offset_bytes)

    def _go_direct(self) -> None:
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError as error:
            self.cache_reason = f"the device refuses O_DIRECT: {error.strerror}"

    def _go_cached(self, reason: str) -> None:
        fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~os.O_DIRECT)
        self.cache_reason = reason


@contextmanager
def open_medium(path: str) -> Iterator[Medium]:
    """Open a block device or regular file for reading from the medium.

    Raises DeviceMissing where nothing is there, DeviceError where it cannot be opened or is something else.
    """
    fd = open_device(path, os.O_RDONLY)
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
            raise DeviceError(f"{path} is neither a block device nor a regular file", operation="open")
        medium = Medium(path, fd, block=stat.S_ISBLK(mode))
        try:
            yield medium
        finally:
            medium.close()
    finally:
        os.close(fd)


def open_device(path: str, flags: int) -> int:
    """Return a descriptor of `path`; DeviceMissing where nothing is there, DeviceError for any other refusal."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        gone = error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR}
        kind = DeviceMissing if gone else DeviceError
        raise kind(f"{path} cannot be opened: {error.strerror}", operation="open") from error


def read(path: str, offset_bytes: int, size_bytes: int) -> bytes:
    """Return bytes of the medium, fewer at its end; errors as `open_medium` and `Medium.read`."""
    with open_medium(path) as medium:
        return medium.read(offset_bytes, size_bytes)


def size_of(path: str) -> int:
    """Return the size of a block device or file in bytes; errors as `open_medium`."""
    fd = open_device(path, os.O_RDONLY)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def sector_size_of(path: str) -> int:
    """Return the logical sector size in bytes (512 for image files); errors as `open_medium`."""
    with open_medium(path) as medium:
        return medium.sector_bytes


def is_zero(path: str, size_bytes: int) -> bool:
    """Tell whether the head and the tail that define Blank read as zeros on a device of `size_bytes`."""
    with open_medium(path) as medium:
        return medium.first_nonzero(blank_ranges(0, size_bytes)) is None


def flush(path: str) -> None:
    """Return when everything written to `path` is on the medium, its write cache included.

    The descriptor is opened for reading: closing one that was opened for writing makes udevd probe the device again.
    """
    fd = open_device(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        raise DeviceError(f"{path} cannot be synced: {error.strerror}", operation="sync") from error
    finally:
        os.close(fd)


def _logical_sector_bytes(fd: int) -> int:
    size: int = struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0]
    return size
