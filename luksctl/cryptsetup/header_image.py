"""A checked copy of a header in memory: what is looked at and opened when nothing on the medium may change.

libcryptsetup writes while it loads a header whose copies differ. Loading the image instead lets it repair memory.
"""

from __future__ import annotations

import os
from collections.abc import Container

from luksctl.cryptsetup.metadata import parse_metadata
from luksctl.cryptsetup.ondisk import Pread, read_copies
from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.model.header import HeaderCopies, LuksHeader
from luksctl.units import MIB
from luksctl.value import field, frozen

# libcryptsetup's own limit of the keyslots area (LUKS2_MAX_KEYSLOTS_SIZE).
_MAX_KEYSLOTS_BYTES: Final = 128 * MIB


@frozen
class HeaderImage:
    """The valid, newer header copy of a device and key areas that it names, as (offset, bytes)."""

    copies: HeaderCopies
    header: LuksHeader
    size_bytes: int
    pieces: tuple[tuple[int, bytes], ...] = field(repr=False)

    def to_memfd(self) -> int:
        """Return a new memory file that reads like the head of the device; the caller closes it."""
        fd = os.memfd_create("luks2-header", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, self.size_bytes)
            for offset, piece in self.pieces:
                os.pwrite(fd, piece, offset)
        except BaseException:
            os.close(fd)
            raise
        return fd


def copy_header(pread: Pread, size_bytes: int, slots: Container[int] | None = None) -> HeaderImage:
    """Read the valid, newer header copy of a device of `size_bytes`, and the key areas of `slots` (None: of every one).

    Raises DeviceError when no copy is valid, or when an area cannot be read or lies outside the header. Writes nothing.
    """
    try:
        return _copy_header(pread, size_bytes, slots)
    except OSError as error:
        raise DeviceError(f"it cannot be read ({error.strerror or error})", operation="copy the header") from error


def _copy_header(pread: Pread, size_bytes: int, slots: Container[int] | None) -> HeaderImage:
    read: list[tuple[int, bytes]] = []

    def keeping(offset: int, length: int) -> bytes:
        data = pread(offset, length)
        read.append((offset, data))
        return data

    copies = read_copies(keeping, size_bytes)
    best = copies.best
    if best is None:
        raise DeviceError(f"there is no valid LUKS2 header ({copies.state.value})", operation="copy the header")
    start = next(copy.offset_bytes for copy in (copies.first, copies.second) if copy and copy.header == best)
    # The very bytes that were checked: whoever writes to the device meanwhile changes nothing about them.
    pieces = [(offset, data) for offset, data in read if start <= offset < start + best.header_size_bytes]
    try:
        metadata = parse_metadata(best.json)
    except RecursionError as error:  # it was parsed before, where there was more of the stack left
        raise DeviceError("the header is nested too deeply", operation="copy the header") from error
    begin = 2 * best.header_size_bytes
    end = begin + min(metadata.keyslots_size_bytes, _MAX_KEYSLOTS_BYTES)
    for area in metadata.areas:
        if not begin <= area.offset_bytes <= area.offset_bytes + area.size_bytes <= min(end, size_bytes):
            raise DeviceError("the key area lies outside the header", slot=area.slot, operation="copy the header")
        if slots is None or area.slot in slots:
            pieces.append((area.offset_bytes, pread(area.offset_bytes, area.size_bytes)))
    return HeaderImage(copies, best, end, tuple(pieces))
