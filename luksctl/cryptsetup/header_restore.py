"""Write a saved header back so that at every moment a whole header is on the device: the one before, or the saved one.

crypt_header_restore writes over everything from the front in one go, and syncs it at the end: a cut leaves the saved
header above key areas of the one before. Here key areas go first, to places that the present header does not use; then
the copies, one after the other, with a sequence id above all others; last, what no keyslot names is overwritten.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_bytes import header_copy, key_areas, moved, read_backup
from luksctl.cryptsetup.header_image import HeaderImage, copy_header
from luksctl.cryptsetup.metadata import Area, parse_metadata
from luksctl.cryptsetup.ondisk import Pread, read_copies
from luksctl.errors import Busy, DeviceError, Refused
from luksctl.hints import Final
from luksctl.model.header import Copies, HeaderCopies
from luksctl.value import field, frozen

# Writes bytes at an offset; what was written is on the medium only when `sync` returned.
Pwrite = Callable[[int, bytes], None]

_ALIGNMENT_BYTES: Final = 4096
# Where libcryptsetup locks the headers of block devices (DEFAULT_LUKS2_LOCK_PATH); files it locks themselves.
_LOCK_DIRECTORY: Final = "/run/cryptsetup"
_HIGHEST_SEQID: Final = 1 << 62
_Range = tuple[int, int]


@frozen
class Stage:
    """Writes that may reach the medium in any order; all of them are synced before the next stage begins."""

    name: str
    writes: tuple[tuple[int, bytes], ...] = field(repr=False)


@frozen
class Restoration:
    """The stages of one restore, in order. `seqid` is that of both copies afterwards."""

    seqid: int
    stages: tuple[Stage, ...]


def restore_header(path: str, size_bytes: int, pread: Pread, content: bytes, seen: HeaderCopies) -> None:
    """Write the saved header `content` to the device at `path`, and check that both copies and all key areas are there.

    `seen` is what was found when it was decided: Refused where it is not so any more. Busy while libcryptsetup is at
    work in another process. DeviceError for a backup that libcryptsetup does not load, before anything is written.
    Cut: as `write_restoration`.
    """
    backup = read_backup(content)
    with locked_for_writing(path) as fd:
        if read_copies(pread, size_bytes) != seen:
            raise Refused("somebody else changed the header meanwhile; nothing was written", hint="look at it again")
        present = None if seen.best is None else copy_header(pread, size_bytes)
        restoration = plan_restoration(backup, present, pread)
        _expect_loadable(restoration, backup, path)
        write_restoration(restoration, write_fully(fd, path), lambda: sync_fully(fd, path))
        _expect_restored(backup, copy_header(pread, size_bytes), restoration.seqid)


def plan_restoration(backup: HeaderImage, present: HeaderImage | None, pread: Pread) -> Restoration:
    """Say what has to be written so that `backup` takes the place of `present` (None: no copy there is valid).

    Refused where the two do not lie alike on the device, or where there is no room beside the key areas in use;
    DeviceError for a backup that contradicts itself.
    """
    areas = sorted(parse_metadata(backup.header.json).areas, key=lambda area: area.offset_bytes)
    if any(a.offset_bytes + a.size_bytes > b.offset_bytes for a, b in pairwise(areas)):
        raise DeviceError("key areas of the backup overlap", operation="restore")
    if present is not None:
        _expect_alike(backup, present)
    in_use = () if present is None else tuple(map(_range, parse_metadata(present.header.json).areas))
    contents = key_areas(backup)
    places = _place(areas, contents, in_use, _limits(backup), pread)
    elsewhere = {area.slot: places[area.slot] for area in areas if places[area.slot] != area.offset_bytes}
    text = moved(backup.header.json, elsewhere) if elsewhere else None
    key_writes = tuple(
        (places[area.slot], contents[area.offset_bytes])
        for area in areas
        if pread(places[area.slot], area.size_bytes) != contents[area.offset_bytes]
    )
    seqid = 1 + max(backup.header.seqid, *_seqids(present))
    if seqid > _HIGHEST_SEQID:
        raise DeviceError(f"the sequence id {seqid - 1} is none that a header comes to", operation="restore")
    offsets = (0, backup.header.header_size_bytes)
    if present is not None and present.copies.first is not None and present.copies.first.header == present.header:
        offsets = offsets[::-1]  # the copy that counts is written over when another one does
    copies = tuple(
        Stage(f"copy at {offset}", ((offset, header_copy(backup, offset, seqid=seqid, text=text)),))
        for offset in offsets
    )
    used = tuple((places[area.slot], places[area.slot] + area.size_bytes) for area in areas)
    rest = tuple((start, os.urandom(end - start)) for start, end in _gaps(_limits(backup), used))
    return Restoration(seqid, (Stage("key areas", key_writes), *copies, Stage("what no keyslot names", rest)))


def write_restoration(restoration: Restoration, pwrite: Pwrite, sync: Callable[[], None]) -> None:
    """Write the stages, each synced before the next.

    Cut in the key areas: the header before, whole, if there was one. In the copies: one of the two headers, whole, the
    saved one as soon as one copy of it is. Later: the saved one, and perhaps remains of removed keyslots, which the
    next restore overwrites. Without a valid header before: none until the first copy is whole; restore again.
    """
    write_stages(restoration.stages, pwrite, sync)


def write_stages(stages: tuple[Stage, ...], pwrite: Pwrite, sync: Callable[[], None]) -> None:
    """Write the stages, each synced before the next. Cut: those before, and some of the writes of one."""
    for stage in stages:
        for offset, data in stage.writes:
            pwrite(offset, data)
        sync()


@contextmanager
def locked_for_writing(path: str) -> Iterator[int]:
    """Open the device at `path` for writing, and keep libcryptsetup in other processes out of its header meanwhile.

    Busy where one of them is at work on it; DeviceError where it cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceError(f"{path} cannot be opened: {error.strerror}", operation="write the header") from error
    try:
        with _locked(fd, path):
            yield fd
    finally:
        os.close(fd)


def write_fully(fd: int, path: str) -> Pwrite:
    """Return what writes to the device; DeviceError where it takes no bytes."""

    def pwrite(offset: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            cause = f"{path} cannot be written at byte {offset}: {error.strerror}"
            raise DeviceError(cause, operation="write the header") from error

    return pwrite


def sync_fully(fd: int, path: str) -> None:
    """Have what was written on the medium; DeviceError where the device says that it is not."""
    try:
        os.fsync(fd)
    except OSError as error:
        raise DeviceError(f"{path} cannot be synced: {error.strerror}", operation="write the header") from error


def _expect_loadable(restoration: Restoration, backup: HeaderImage, path: str) -> None:
    """Have libcryptsetup check the header that is about to be written, from memory."""
    content = bytearray(backup.size_bytes)
    for stage in restoration.stages:
        for offset, data in stage.writes:
            content[offset : offset + len(data)] = data
    with Device.from_copy(read_backup(bytes(content)), path):
        pass


def _expect_restored(backup: HeaderImage, found: HeaderImage, seqid: int) -> None:
    contents = [sorted(key_areas(image).values()) for image in (backup, found)]
    if found.copies.state is not Copies.EQUAL or found.header.seqid != seqid or contents[0] != contents[1]:
        raise DeviceError("what was written does not read back", operation="restore the header", hint="restore again")


# ---- where key areas go ---------------------------------------------------------------------------------------------


def _place(
    areas: list[Area], contents: dict[int, bytes], in_use: tuple[_Range, ...], limits: _Range, pread: Pread
) -> dict[int, int]:
    """Return the offset for each key area: its own, unless something else is there that the present header uses."""
    places: dict[int, int] = {}
    homeless = []
    for area in areas:
        alike = pread(area.offset_bytes, area.size_bytes) == contents[area.offset_bytes]
        if alike or not any(_overlap(_range(area), other) for other in in_use):
            places[area.slot] = area.offset_bytes
        else:
            homeless.append(area)
    sizes = {area.slot: area.size_bytes for area in areas}
    for area in homeless:
        taken = (*in_use, *((start, start + sizes[slot]) for slot, start in places.items()))
        free = (start for start, end in _gaps(limits, taken) if end - start >= area.size_bytes)
        place = next(free, None)
        if place is None:
            raise Refused(
                "there is no room to write its key area beside those that are in use now",
                slot=area.slot,
                hint="cryptsetup luksHeaderRestore writes over them; cut short, it may leave keys that open nothing",
            )
        places[area.slot] = place
    return places


def _gaps(limits: _Range, taken: tuple[_Range, ...]) -> Iterator[_Range]:
    """Yield what is free between the limits, from aligned offsets on."""
    position = limits[0]
    for start, end in sorted((*taken, (limits[1], limits[1]))):
        if start > position:
            yield position, start
        position = max(position, -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)


def _limits(image: HeaderImage) -> _Range:
    return 2 * image.header.header_size_bytes, image.size_bytes


def _range(area: Area) -> _Range:
    return area.offset_bytes, area.offset_bytes + area.size_bytes


def _overlap(one: _Range, other: _Range) -> bool:
    return one[0] < other[1] and other[0] < one[1]


# ---- the present header ---------------------------------------------------------------------------------------------


def _expect_alike(backup: HeaderImage, present: HeaderImage) -> None:
    """Raise Refused where data or key areas would begin elsewhere than they do."""
    data = {
        "the size of the header": (backup.header.header_size_bytes, present.header.header_size_bytes),
        "the size of the keyslots area": (backup.size_bytes, present.size_bytes),
        "where the data begins": (_data_offset(backup), _data_offset(present)),
    }
    for what, (saved, found) in data.items():
        if saved != found:
            raise Refused(f"{what} is {saved} in the backup and {found} on the device")


def _data_offset(image: HeaderImage) -> int:
    return min((segment.offset_bytes for segment in image.header.segments), default=0)


def _seqids(image: HeaderImage | None) -> list[int]:
    if image is None:
        return [0]
    found = (image.copies.first, image.copies.second)
    return [copy.header.seqid for copy in found if copy is not None and copy.header is not None]


# ---- the lock of libcryptsetup --------------------------------------------------------------------------------------


@contextmanager
def _locked(fd: int, path: str) -> Iterator[None]:
    """Hold the lock that libcryptsetup takes for writing: the file's own, or one beside for a block device."""
    status = os.fstat(fd)
    lock = fd
    if stat.S_ISBLK(status.st_mode):
        os.makedirs(_LOCK_DIRECTORY, mode=0o700, exist_ok=True)
        name = f"L_{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        lock = os.open(f"{_LOCK_DIRECTORY}/{name}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another program is at work on the header of {path}", hint="wait for it to end") from error
        yield
    finally:
        if lock != fd:
            os.close(lock)
