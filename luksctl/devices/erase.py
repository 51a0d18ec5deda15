"""Writing zeros where Blank looks, and nowhere else."""

from __future__ import annotations

import os

from luksctl.devices.medium import Range, blank_ranges, open_device, size_of
from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.units import MIB

_ZEROS: Final = memoryview(bytes(MIB))


def erase(path: str, ranges: tuple[Range, ...]) -> None:
    """Write zeros over `ranges`, in their order, and sync.

    DeviceError where a write fails. Cut: some ranges, or the beginning of some, may be zero; nothing else has changed.
    A block device that is mounted or otherwise claimed is refused by the kernel (O_EXCL) before the first write.
    """
    fd = open_device(path, os.O_WRONLY | os.O_EXCL)
    try:
        for part in ranges:
            _fill(fd, part)
        os.fsync(fd)
    except OSError as error:
        raise DeviceError(f"{path} cannot be overwritten with zeros: {error.strerror}", operation="erase") from error
    finally:
        os.close(fd)


def erase_head(path: str) -> None:
    """Write zeros over the head that Blank asks about, and sync; errors and cuts as `erase`."""
    erase(path, blank_ranges(0, size_of(path))[:1])


def _fill(fd: int, part: Range) -> None:
    position, end = part.offset_bytes, part.offset_bytes + part.size_bytes
    while position < end:
        position += os.pwrite(fd, _ZEROS[: end - position], position)
