"""Shrinking an ext4, and taking that back: resize2fs has no journal, so what it overwrites is saved before it starts.

Which blocks those are is found out beside the device. resize2fs works by metadata alone, and moves what lies behind the
new end; so it shrinks a copy of both first, a sparse file in memory. Where that then differs from the device, and where
resize2fs is known to write twice, it overwrites the device. Blocks that are free need no saving, and what is moved
stays where it was, so it is little but metadata.

Its own undo file (-z) does not serve: it is neither synced nor written before the device is, and with it resize2fs
(1.47.0) does something else, since it reads a block from its cache that it has zeroed meanwhile.

The saved file: _MAGIC, then for each run of blocks its offset and length on the device and its length here, in bytes,
and the bytes, compressed. META has its SHA-256.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from luksctl.devices.medium import Medium, flush, open_device, open_medium
from luksctl.devices.programs import Program, locate, run
from luksctl.devices.saving import save_pieces, write_fully
from luksctl.errors import DeviceError, Refused
from luksctl.hints import Final
from luksctl.model.probe import Device, Range
from luksctl.units import KIB, MIB

RESIZE2FS: Final = Program("resize2fs", "e2fsprogs")
_E2IMAGE: Final = Program("e2image", "e2fsprogs")
_DUMPE2FS: Final = Program("dumpe2fs", "e2fsprogs")
_DEBUGFS: Final = Program("debugfs", "e2fsprogs")
# Hours on a large and slow disk; whoever asked for this waits for it.
TIMEOUT_S: Final = 24 * 3600.0
_MAGIC: Final = b"luksctl shrinking 1\n"
_RUN: Final = struct.Struct("<QII")
_LONGEST_BYTES: Final = 1 * MIB
_FREE: Final = re.compile(r"^  Free blocks: ([0-9, -]+)$", re.MULTILINE)
_BLOCK_SIZE: Final = re.compile(r"^Block size: +([0-9]+)$", re.MULTILINE)
_WHAT: Final = "shrink the filesystem"


def rehearse(device: Device, size_bytes: int, scratch: str, saved: str) -> str:
    """Save what `shrink` will overwrite to the file `saved`, and return its SHA-256; the device is only read.

    Refused where there is no room for it. Cut: no such file, or all of it. `scratch` is a name for a file in memory.
    """
    os.makedirs(os.path.dirname(scratch), mode=0o755, exist_ok=True)
    try:
        with _room_for(scratch):
            before = _shrunk_copy(device, size_bytes, scratch)
        with open_medium(device.path) as medium, _opened(scratch) as copy:
            os.truncate(copy, medium.size_bytes)  # resize2fs has cut it off behind the filesystem
            blocks = _Blocks(device)
            numbers = set(blocks.written_twice())
            for part in (*before, *_data_of(copy)):
                numbers |= set(_differing(medium, copy, part, blocks.size_bytes))
            with _room_for(saved):
                return save_pieces(saved, _pieces(medium, blocks, sorted(numbers)))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(scratch)


def shrink(device: Device, size_bytes: int) -> None:
    """Have resize2fs make the filesystem end within `size_bytes`, and sync. Cut: half shrunk; `put_back` undoes it."""
    _resize(device.path, size_bytes)
    _as_long_as(device)
    flush(device.path)


def put_back(device: Device, saved: str, sha256: str) -> str:
    """Write back what was saved, sync, and compare it on the medium; return what was done. Cut: do it again.

    Refused, and nothing is written, where the file is not the one that META knows.
    """
    if device.image and os.path.getsize(device.path) < device.size_bytes:
        # resize2fs cuts an image file off as the last of all, when everything else was synced.
        _as_long_as(device)
        flush(device.path)
        return "it had been shrunk to its end"
    _expect_whole(saved, sha256)
    fd = open_device(device.path, os.O_WRONLY | (0 if device.image else os.O_EXCL))
    total_bytes = 0
    try:
        for offset_bytes, content in _runs(saved):
            write_fully(fd, content, offset_bytes)
            total_bytes += len(content)
        os.fsync(fd)
    except OSError as error:
        raise DeviceError(f"{device.path} cannot be written: {error.strerror}", operation=_WHAT) from error
    finally:
        os.close(fd)
    with open_medium(device.path) as medium:
        if any(medium.read(offset_bytes, len(content)) != content for offset_bytes, content in _runs(saved)):
            raise DeviceError(f"{device.path} does not read back as it was written", operation=_WHAT)
    return f"{total_bytes // KIB} KiB taken back from {saved}"


def _resize(path: str, size_bytes: int) -> None:
    # -f: else resize2fs asks for a check that writes. e2fsck -n has looked, and the smallest size is known.
    run([locate(RESIZE2FS), "-f", path, f"{size_bytes // KIB}k"], timeout_s=TIMEOUT_S)


def _as_long_as(device: Device) -> None:
    """Make an image file as long as the device is known to be: resize2fs cuts it off behind the filesystem."""
    if device.image and os.path.getsize(device.path) < device.size_bytes:
        os.truncate(device.path, device.size_bytes)


# ---- what resize2fs writes ------------------------------------------------------------------------------------------


def _shrunk_copy(device: Device, size_bytes: int, copy: str) -> tuple[Range, ...]:
    """Make the copy, shrunk, and return where it had data before that; the rest were holes."""
    behind_bytes = size_bytes
    while True:
        before = _copy(device, behind_bytes, copy)
        _resize(copy, size_bytes)
        end_bytes = os.path.getsize(copy)
        if end_bytes >= behind_bytes:
            return before
        # A group that would be too small at the end is left out, so more is moved.
        behind_bytes = end_bytes


def _copy(device: Device, behind_bytes: int, copy: str) -> tuple[Range, ...]:
    """Make the copy of the metadata, and of all from `behind_bytes` on; return where it has data."""
    with suppress(FileNotFoundError):
        os.unlink(copy)
    try:
        run([locate(_E2IMAGE), "-r", device.path, copy], timeout_s=TIMEOUT_S)
    except DeviceError as error:
        error.hint = error.hint or f"for a moment, a copy of its metadata has to fit into {os.path.dirname(copy)}"
        raise
    with open_medium(device.path) as medium, _opened(copy) as target:
        position = behind_bytes
        for piece in medium.chunks(Range(behind_bytes, device.size_bytes - behind_bytes)):
            write_fully(target, piece, position)
            position += len(piece)
        return _data_of(target)


def _data_of(fd: int) -> tuple[Range, ...]:
    """Return where the file has data, in parts of up to _LONGEST_BYTES; the rest of it are holes."""
    found = []
    size_bytes, position = os.fstat(fd).st_size, 0
    while position < size_bytes:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is none any more
                raise
            break
        end = min(os.lseek(fd, position, os.SEEK_HOLE), position - position % _LONGEST_BYTES + _LONGEST_BYTES)
        found.append(Range(position, end - position))
        position = end
    return tuple(found)


def _differing(medium: Medium, copy: int, part: Range, block_bytes: int) -> Iterator[int]:
    """Yield the numbers of the blocks in `part` that are not on the device what they are in the copy."""
    begin = part.offset_bytes - part.offset_bytes % block_bytes
    size_bytes = -(-(part.offset_bytes + part.size_bytes - begin) // block_bytes) * block_bytes
    there, shrunk = medium.read(begin, size_bytes), os.pread(copy, size_bytes, begin)
    if there == shrunk:
        return
    for at in range(0, len(there), block_bytes):
        if there[at : at + block_bytes] != shrunk[at : at + block_bytes]:
            yield (begin + at) // block_bytes


class _Blocks:
    """What e2fsprogs say of the blocks of a filesystem."""

    def __init__(self, device: Device) -> None:
        self._device = device
        text = run([locate(_DUMPE2FS), device.path], timeout_s=TIMEOUT_S)
        named = _BLOCK_SIZE.search(text)
        if named is None:
            raise DeviceError(f"dumpe2fs does not tell the block size of {device.path}", operation=_WHAT)
        self.size_bytes = int(named[1])
        listed = (part.partition("-") for line in _FREE.findall(text) for part in line.split(", "))
        self._free = sorted((int(first), int(last or first)) for first, _, last in listed)
        self._firsts = [first for first, _ in self._free]

    def free(self, number: int) -> bool:
        """Tell whether a block is listed as free; one of which nothing is said counts as used."""
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._free[place][1]

    def written_twice(self) -> Iterator[int]:
        """Yield the blocks of inode 7, which keeps descriptors for growing: it is made anew, by zeros first."""
        text = run([locate(_DEBUGFS), "-R", "blocks <7>", self._device.path], timeout_s=TIMEOUT_S)
        yield from (int(word) for word in text.split())


# ---- the saved file -------------------------------------------------------------------------------------------------


def _pieces(medium: Medium, blocks: _Blocks, numbers: Iterable[int]) -> Iterator[bytes]:
    """Yield the content of the file: the blocks as they are on the device, but for free ones."""
    yield _MAGIC
    used = (number for number in numbers if not blocks.free(number))
    for first, count in _joined(used, _LONGEST_BYTES // blocks.size_bytes):
        offset_bytes, size_bytes = first * blocks.size_bytes, count * blocks.size_bytes
        content = zlib.compress(medium.read(offset_bytes, size_bytes), 1)
        yield _RUN.pack(offset_bytes, size_bytes, len(content)) + content


def _joined(numbers: Iterable[int], longest: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of consecutive `numbers`: the first one, and how many."""
    first = count = 0
    for number in numbers:
        if count and (number != first + count or count == longest):
            yield first, count
            count = 0
        first, count = (first if count else number), count + 1
    if count:
        yield first, count


def _runs(saved: str) -> Iterator[tuple[int, bytes]]:
    with open(saved, "rb") as source:
        source.seek(len(_MAGIC))
        while head := source.read(_RUN.size):
            offset_bytes, size_bytes, length = _RUN.unpack(head)
            content = zlib.decompress(source.read(length))
            if len(content) != size_bytes:
                raise DeviceError(f"{saved} is damaged", operation=_WHAT)
            yield offset_bytes, content


def _expect_whole(saved: str, sha256: str) -> None:
    try:
        with open(saved, "rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
            source.seek(0)
            whole = found == sha256 and source.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise _no_way_back(f"{saved} cannot be read: {error.strerror}") from error
    if not whole:
        raise _no_way_back(f"{saved} is not what META says")


def _no_way_back(why: str) -> Refused:
    return Refused(
        f"its filesystem may be half shrunk, and {why}",
        hint="bring it back; or remove it, mend the filesystem (e2fsck), then: luksctl retry EPHEMERAL --drop-intent",
    )


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = open_device(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _room_for(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise DeviceError(f"{path} cannot be written: {error.strerror}", operation=_WHAT) from error
        raise Refused(
            f"{path} has no room for what shrinking needs beforehand; the filesystem was not touched",
            hint=f"free some space in {os.path.dirname(path)}",
        ) from error
