"""Overwriting or discarding a whole device: what takes long, so it says how far it is and how long it will be.

Overwriting goes section by section, and a section counts once it was read back from the medium. One that reads as zeros
already is not written: what was interrupted goes on as fast as the device reads.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator

from luksctl.devices.erase import fill, zeroing
from luksctl.devices.medium import Medium, open_device, open_medium
from luksctl.errors import DeviceError
from luksctl.hints import Final, final
from luksctl.model.probe import Device, Range
from luksctl.units import GIB, KIB, MIB, format_size

_SECTION_BYTES: Final = 64 * MIB
_DISCARD_BYTES: Final = 16 * GIB
_BLKDISCARD: Final = 0x1277  # linux/fs.h, _IO(0x12, 119); takes two u64, offset and length
_TELL_AFTER_S: Final = 2.0
_TELL_EVERY_S: Final = 10.0
_PAGE_BYTES: Final = 4 * KIB


@final
class Progress:
    """Say how far something is, after two seconds and then every ten: share, rate, and how long it will be."""

    def __init__(
        self, what: str, begin_bytes: int, end_bytes: int, tell: Callable[[str], None], now_s: Callable[[], float]
    ) -> None:
        self._what = what
        self._begin_bytes = begin_bytes
        self._end_bytes = end_bytes
        self._tell = tell
        self._now_s = now_s
        self._begun_s = now_s()
        self._next_s = self._begun_s + _TELL_AFTER_S

    def at(self, position_bytes: int) -> None:
        """Note that everything before `position_bytes` is done."""
        now_s = self._now_s()
        if now_s < self._next_s or position_bytes <= self._begin_bytes:
            return
        self._next_s = now_s + _TELL_EVERY_S
        rate = (position_bytes - self._begin_bytes) / (now_s - self._begun_s)
        left_s = (self._end_bytes - position_bytes) / rate
        share = 100 * position_bytes // self._end_bytes
        self._tell(f"{self._what}: {share} %, {format_size(int(rate))}/s, {_duration(left_s)} left")


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def overwrite(
    device: Device, position_bytes: int, tell: Callable[[str], None], now_s: Callable[[], float] = time.monotonic
) -> Iterator[int]:
    """Write zeros from `position_bytes` to the end; yield the position up to which they were synced and read back.

    DeviceError where a section cannot be written, or reads back otherwise. Cut: everything before the last position is
    zero, and perhaps more. A block device that anybody holds is refused before the first write.
    """
    progress = Progress(f"overwriting {device.path}", position_bytes, device.size_bytes, tell, now_s)
    with zeroing(device.path, exclusive=True) as fd, open_medium(device.path) as medium:
        while position_bytes < device.size_bytes:
            section = Range(position_bytes, min(_SECTION_BYTES, device.size_bytes - position_bytes))
            _zero_section(fd, medium, section)
            position_bytes += section.size_bytes
            progress.at(position_bytes)
            yield position_bytes


def _zero_section(fd: int, medium: Medium, section: Range) -> None:
    found = medium.first_nonzero((section,))
    if found is None:
        return
    start = max(section.offset_bytes, found - found % _PAGE_BYTES)
    rest = Range(start, section.offset_bytes + section.size_bytes - start)
    fill(fd, rest)
    os.fsync(fd)
    left = medium.first_nonzero((rest,))
    if left is not None:
        raise DeviceError(
            f"{medium.path} does not read as zero at byte {left}, where zeros were written",
            operation="overwrite",
            hint="the disk is failing, or hides its writes: read its log (journalctl -k)",
        )


def discard(device: Device, tell: Callable[[str], None], now_s: Callable[[], float] = time.monotonic) -> str | None:
    """Tell the device that all of its blocks are free; return why it was not told, or None where it was.

    What reads back from them afterwards is the device's own affair. Cut: some are discarded.
    """
    if device.image:
        return "an image file takes no discards"
    progress = Progress(f"discarding {device.path}", 0, device.size_bytes, tell, now_s)
    fd = open_device(device.path, os.O_WRONLY | os.O_EXCL)
    try:
        for position in range(0, device.size_bytes, _DISCARD_BYTES):
            count = min(_DISCARD_BYTES, device.size_bytes - position)
            fcntl.ioctl(fd, _BLKDISCARD, struct.pack("QQ", position, count))
            progress.at(position + count)
        os.fsync(fd)
    except OSError as error:
        # No erasure depends on it: what had to go was overwritten and read back before.
        return f"the device takes no discards: {error.strerror}"
    finally:
        os.close(fd)
    return None
