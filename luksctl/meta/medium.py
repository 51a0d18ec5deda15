"""META's block device or image file: reads from the medium and not the page cache, writes that are synced and proven.

A block device is read with O_DIRECT, so what comes back is what the disk holds. An image file's clean pages are
dropped with POSIX_FADV_DONTNEED before the read (O_DIRECT is not for every filesystem, and aligned to more than ours).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from luksctl.errors import MetaError
from luksctl.hints import Final
from luksctl.secret import wipe

_ANONYMOUS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE

Writer = Callable[[int, bytes | bytearray], None]


class Medium:
    """Read and write META at `path`; keeps nothing between calls, neither bytes nor descriptors."""

    def __init__(self, path: str) -> None:
        self.path = path

    def size_bytes(self) -> int | None:
        """Return the size, or None where nothing is at the path; MetaError when that cannot be told."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("open", error) from error
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)

    def is_block_device(self) -> bool:
        """Tell a block device from an image file (or from nothing at all)."""
        try:
            return stat.S_ISBLK(os.stat(self.path).st_mode)
        except FileNotFoundError:
            return False

    def read(self, regions: Sequence[tuple[int, int]]) -> list[bytearray | None]:
        """Return the bytes of each (offset, length), None where the medium gave a read error; the caller wipes them.

        MetaError for every other failure, and when no region could be read.
        """
        try:
            descriptor = self._open(os.O_RDONLY)
        except OSError as error:
            raise self._error("read", error) from error
        try:
            found = [self._read_region(descriptor, offset, length) for offset, length in regions]
        except OSError as error:
            raise self._error("read", error) from error
        finally:
            os.close(descriptor)
        if all(region is None for region in found):
            raise self._error("read", OSError(errno.EIO, os.strerror(errno.EIO)))
        return found

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Give a function (offset, bytes) that writes, syncs, reads back and compares; MetaError if any of it fails.

        Opened once for all writes of one change: each close of a writable node makes udev probe the disk.
        """
        try:
            descriptor = self._open(os.O_RDWR)
        except OSError as error:
            raise self._error("write", error) from error

        def write(offset: int, data: bytes | bytearray) -> None:
            try:
                self.put(descriptor, offset, data)
                os.fsync(descriptor)
            except OSError as error:
                raise self._error("write", error) from error
            self._compare(offset, data)

        try:
            yield write
        finally:
            os.close(descriptor)

    def put(self, descriptor: int, offset: int, data: bytes | bytearray) -> None:
        """Write all of `data`, not yet synced. Cut: any of its sectors are the new ones, in any order."""
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.pwrite(descriptor, view[written:], offset + written)

    def get(self, descriptor: int, offset: int, length: int) -> bytearray:
        """Read `length` bytes from the medium; OSError as the kernel gives it, EIO where the file ends early."""
        # Anonymous memory is aligned to a page, which O_DIRECT asks for; it comes whole, not by a fault for each page.
        with mmap.mmap(-1, length, flags=_ANONYMOUS) as buffer, memoryview(buffer) as view:
            filled = 0
            while filled < length:
                count = os.preadv(descriptor, [view[filled:]], offset + filled)
                if count == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                filled += count
            found = bytearray(view)
            wipe(view)
        return found

    def _open(self, flags: int) -> int:
        # O_NONBLOCK: a FIFO put in META's place must not hang the boot.
        descriptor = os.open(self.path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISBLK(mode) or stat.S_ISREG(mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ENOTBLK, "neither a block device nor a file")

    def _read_region(self, descriptor: int, offset: int, length: int) -> bytearray | None:
        if stat.S_ISBLK(os.fstat(descriptor).st_mode):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)
        else:
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        try:
            return self.get(descriptor, offset, length)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None

    def _compare(self, offset: int, data: bytes | bytearray) -> None:
        # O_DIRECT reads whole blocks: take the pages around a part as small as a legacy copy.
        start = offset - offset % mmap.PAGESIZE
        end = -(-(offset + len(data)) // mmap.PAGESIZE) * mmap.PAGESIZE
        (found,) = self.read([(start, end - start)])
        if found is None or found[offset - start : offset - start + len(data)] != data:
            raise MetaError(
                f"what {self.path} gives back at byte {offset} is not what was written",
                volume="META",
                operation="write",
                hint="the disk is failing: read its log (journalctl -k) before anything else is written to it",
            )
        wipe(found)

    def _error(self, operation: str, error: OSError) -> MetaError:
        return MetaError(f"{self.path}: {error.strerror}", volume="META", operation=operation)


def create_image(path: str, content: bytes) -> None:
    """Make the file `path` (mode 0600) with `content` in one step: write beside it, sync, rename, sync the directory.

    Cut: no file, or the whole file, and perhaps a leftover `path`.new that the next attempt replaces. MetaError when
    the filesystem refuses.
    """
    fresh = f"{path}.new"
    try:
        # A leftover is removed, not reused: its mode and owner may be anybody's.
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with memoryview(content) as view:
                written = 0
                while written < len(view):
                    written += os.write(descriptor, view[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(fresh, path)
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise MetaError(f"{path}: {error.strerror}", volume="META", operation="create") from error
