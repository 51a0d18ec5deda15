"""LUKS2 headers as bytes: both copies read and checked without libcryptsetup, and without writing anything.

Layout: LUKS2 On-Disk Format Specification 1.1, sections 2.1 (binary header) and 2.2 to 3 (JSON area). The bytes may
come from anyone: sizes are bounded before they are read, and whatever is wrong with a copy becomes its `problem`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from luksctl.cryptsetup.metadata import parse_metadata
from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.model.header import SECONDARY_OFFSETS, Copies, HeaderCopies, HeaderCopy, LuksHeader
from luksctl.value import frozen

# (offset, length) → the bytes there, fewer at the end of the device. An OSError or a DeviceError makes the copy there
# invalid.
Pread = Callable[[int, int], bytes]

FIRST_MAGIC: Final = b"LUKS\xba\xbe"
SECOND_MAGIC: Final = b"SKUL\xba\xbe"
BINARY_SIZE_BYTES: Final = 4096
_BINARY: Final = struct.Struct(">6sHQQ48s32s64s40s48sQ184x64s")
_CHECKSUM: Final = slice(448, 512)
_CHECKSUM_HASHES: Final = frozenset({"sha1", "sha224", "sha256", "sha384", "sha512"})


class _Invalid(Exception):
    """Why a copy is not valid; never leaves this module."""


@frozen
class _Binary:
    magic: bytes
    version: int
    header_size_bytes: int
    seqid: int
    label: str
    checksum_hash: str
    uuid: str
    subsystem: str
    offset_bytes: int
    checksum: bytes


def read_copies(pread: Pread, size_bytes: int) -> HeaderCopies:
    """Return both header copies of a device of `size_bytes`, each checked; raises nothing of its own.

    The second copy is looked for where a valid first one says, else at every legal offset.
    """
    first = _read_copy(pread, size_bytes, 0)
    if first is not None and first.problem == _LUKS1:
        return HeaderCopies(Copies.LUKS1, first)
    if first is not None and first.header is not None:
        second = _read_copy(pread, size_bytes, first.header.header_size_bytes)
    else:
        found = [copy for offset in SECONDARY_OFFSETS if (copy := _read_copy(pread, size_bytes, offset)) is not None]
        second = next((copy for copy in found if copy.valid), found[0] if found else None)
    return HeaderCopies(_state(first, second), first, second)


def _state(first: HeaderCopy | None, second: HeaderCopy | None) -> Copies:
    first_header = None if first is None else first.header
    second_header = None if second is None else second.header
    if first_header is not None and second_header is not None:
        return Copies.EQUAL if first_header == second_header else Copies.DIFFER
    if first_header is not None:
        return Copies.FIRST_ONLY
    if second_header is not None:
        return Copies.SECOND_ONLY
    return Copies.NONE if first is None and second is None else Copies.DAMAGED


_LUKS1: Final = "LUKS version 1"


def _read_copy(pread: Pread, size_bytes: int, offset: int) -> HeaderCopy | None:
    """Return the copy at `offset`, or None if no LUKS magic is there."""
    if offset >= size_bytes:
        return None
    try:
        head = _read_head(pread, offset)
        if not head.startswith(FIRST_MAGIC if offset == 0 else SECOND_MAGIC):
            return None
        return HeaderCopy(offset, _check_copy(pread, size_bytes, offset, head))
    except OSError as error:
        return HeaderCopy(offset, None, f"it cannot be read ({error.strerror or error})")
    except DeviceError as error:
        return HeaderCopy(offset, None, f"it cannot be read ({error.cause})")
    except _Invalid as reason:
        return HeaderCopy(offset, None, str(reason))


def _read_head(pread: Pread, offset: int) -> bytes:
    """Return the bytes of the smallest header at once, or only the binary part where not all of them can be read."""
    try:
        return pread(offset, SECONDARY_OFFSETS[0])
    except (OSError, DeviceError):
        return pread(offset, BINARY_SIZE_BYTES)


def _check_copy(pread: Pread, size_bytes: int, offset: int, head: bytes) -> LuksHeader:
    binary = _parse_binary(head)
    if binary.version == 1 and offset == 0:
        raise _Invalid(_LUKS1)
    if binary.version != 2:
        raise _Invalid(f"unknown version {binary.version}")
    if binary.header_size_bytes not in SECONDARY_OFFSETS:
        raise _Invalid(f"illegal header size {binary.header_size_bytes}")
    if offset not in (0, binary.header_size_bytes):
        raise _Invalid("the second copy is not where the size of the first puts it")
    if binary.offset_bytes != offset:
        raise _Invalid(f"it says that it is at offset {binary.offset_bytes}")
    if offset + binary.header_size_bytes > size_bytes:
        raise _Invalid("the device ends inside the header")
    missing_bytes = binary.header_size_bytes - len(head)
    raw = head + pread(offset + len(head), missing_bytes) if missing_bytes > 0 else head[: binary.header_size_bytes]
    if len(raw) != binary.header_size_bytes:
        raise _Invalid("the device ends inside the header")
    _check_checksum(raw, binary)
    return _parse_json_area(raw[BINARY_SIZE_BYTES:], binary)


def _parse_binary(head: bytes) -> _Binary:
    if len(head) < BINARY_SIZE_BYTES:
        raise _Invalid("the device ends inside the header")
    magic, version, size, seqid, label, checksum_hash, _, uuid, subsystem, offset, checksum = _BINARY.unpack_from(head)
    return _Binary(
        magic=magic,
        version=version,
        header_size_bytes=size,
        seqid=seqid,
        label=_text(label),
        checksum_hash=_text(checksum_hash),
        uuid=_text(uuid),
        subsystem=_text(subsystem),
        offset_bytes=offset,
        checksum=checksum,
    )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _check_checksum(raw: bytes, binary: _Binary) -> None:
    if binary.checksum_hash not in _CHECKSUM_HASHES:
        raise _Invalid(f"unknown checksum algorithm {binary.checksum_hash!r}")
    digest = hashlib.new(binary.checksum_hash, usedforsecurity=False)
    digest.update(raw[: _CHECKSUM.start])
    digest.update(bytes(_CHECKSUM.stop - _CHECKSUM.start))
    digest.update(memoryview(raw)[_CHECKSUM.stop :])
    if digest.digest() != binary.checksum[: digest.digest_size]:
        raise _Invalid("the checksum does not match")


def _parse_json_area(area: bytes, binary: _Binary) -> LuksHeader:
    text_bytes, end, _ = area.partition(b"\0")
    if not end:
        raise _Invalid("the JSON area does not end")
    try:
        text = text_bytes.decode("utf-8")
        metadata = parse_metadata(text)
    except (ValueError, RecursionError) as error:
        raise _Invalid(f"the JSON area cannot be read ({_first_line(error)})") from error
    return LuksHeader(
        uuid=binary.uuid,
        label=binary.label,
        subsystem=binary.subsystem,
        seqid=binary.seqid,
        header_size_bytes=binary.header_size_bytes,
        keyslots=metadata.keyslots,
        tokens=metadata.tokens,
        segments=metadata.segments,
        digest_iterations=metadata.digest_iterations,
        requirements=metadata.requirements,
        flags=metadata.flags,
        json=text,
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
