"""Writing zeros, where Blank looks or wherever a reset wants them, and reading back what the medium holds then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.devices.medium import open_device, open_medium, size_of
from luksctl.errors import Busy, DeviceError
from luksctl.hints import Final
from luksctl.model.probe import Range, blank_ranges
from luksctl.units import MIB

_ZEROS: Final = memoryview(bytes(MIB))


def erase(path: str, ranges: tuple[Range, ...]) -> None:
    """Write zeros over `ranges`, in their order, and sync.

    DeviceError where a write fails. Cut: some ranges, or the beginning of some, may be zero; nothing else has changed.
    A block device that is mounted or otherwise claimed is refused by the kernel (O_EXCL) before the first write.
    """
    with zeroing(path, exclusive=True) as fd:
        _fill(fd, ranges)


def erase_head(path: str) -> None:
    """Write zeros over the head that Blank asks about, and sync; errors and cuts as `erase`."""
    erase(path, blank_ranges(0, size_of(path))[:1])


def erase_proven(path: str, passes: tuple[tuple[Range, ...], ...], *, exclusive: bool) -> str:
    """Write zeros over the ranges of each pass, sync after each, and read all of them back; return how that was done.

    Without `exclusive` it works below an open mapping as well. DeviceError where anything reads back as not zero.
    Cut: the passes before are zero, and some of this one.
    """
    with zeroing(path, exclusive=exclusive) as fd:
        for ranges in passes:
            _fill(fd, ranges)
            os.fsync(fd)
    return read_back(path, tuple(part for ranges in passes for part in ranges))


def read_back(path: str, ranges: tuple[Range, ...]) -> str:
    """Return how the ranges were read, all of which are zero; DeviceError where one is not."""
    with open_medium(path) as medium:
        offset = medium.first_nonzero(ranges)
        reason = medium.cache_reason
    if offset is not None:
        raise DeviceError(
            f"{path} does not read as zero at byte {offset}, where zeros were written",
            operation="erase",
            hint="the disk is failing, or hides its writes: read its log (journalctl -k)",
        )
    return "read back from the medium" if reason is None else f"read back ({reason})"


@contextmanager
def zeroing(path: str, *, exclusive: bool) -> Iterator[int]:
    """Give a descriptor to write to, and sync at the end; DeviceError for what goes wrong, Busy where it is held."""
    try:
        fd = open_device(path, os.O_WRONLY | (os.O_EXCL if exclusive else 0))
    except DeviceError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EBUSY:
            raise Busy(error.cause, operation="erase", hint="it is in use; reboot, and the boot goes on") from error
        raise
    try:
        yield fd
        os.fsync(fd)
    except OSError as error:
        raise DeviceError(f"{path} cannot be overwritten with zeros: {error.strerror}", operation="erase") from error
    finally:
        os.close(fd)


def fill(fd: int, part: Range) -> None:
    """Write zeros over one range; nothing is synced. Raises OSError."""
    position, end = part.offset_bytes, part.offset_bytes + part.size_bytes
    while position < end:
        position += os.pwrite(fd, _ZEROS[: end - position], position)


def _fill(fd: int, ranges: tuple[Range, ...]) -> None:
    for part in ranges:
        fill(fd, part)
