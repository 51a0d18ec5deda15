"""The syslinux ADV in the last 1024 bytes of META: read where Talos still reads it, otherwise left as it is. Pure.

Two copies of 512 bytes, all numbers little-endian:

      0    4  magic 0x5A2D2FA5
      4    4  0xA3041767 minus the sum of the 32-bit words from 8 to 507
      8  500  records: tag u8, size u8, value; tag 0 ends the list
    508    4  magic 0xDD28BF64

Talos interprets the first copy only, and without looking at magic or checksum. Here a copy must verify, so garbage
never appears as a tag; the second serves when the first does not verify.
"""

from __future__ import annotations

import struct

from luksctl.hints import Final

TAIL_SIZE_BYTES: Final = 1024
COPY_SIZE_BYTES: Final = 512

_HEAD: Final = struct.Struct("<II")
_FOOT: Final = struct.Struct("<I")
_WORDS: Final = struct.Struct("<125I")
_MAGIC_HEAD: Final = 0x5A2D2FA5
_MAGIC_FOOT: Final = 0xDD28BF64
_CHECKSUM_BASE: Final = 0xA3041767
_RECORDS_OFFSET: Final = _HEAD.size
_RECORDS_END: Final = COPY_SIZE_BYTES - _FOOT.size


def decode(tail: bytes | bytearray) -> dict[int, bytes]:
    """Return the tags of the first copy in `tail` (1024 bytes) that verifies, ascending; no tags if none does."""
    copy = _serving_copy(tail)
    if copy is None:
        return {}
    tags: dict[int, bytes] = {}
    for tag, start, end in _records(copy) or ():
        tags.setdefault(tag, copy[start + 2 : end])
    return dict(sorted(tags.items()))


def verifies(tail: bytes | bytearray) -> bool:
    """Tell whether at least one copy in `tail` is a legacy ADV."""
    return _serving_copy(tail) is not None


def without_tag(tail: bytes | bytearray, tag: int) -> bytes:
    """Return one copy (512 bytes) without any record of `tag`, with its checksum made anew.

    ValueError when no copy verifies or none has the tag; ask `decode` first. The other records keep their order and
    bytes. Both places of the tail are to be written with it, one after the other.
    """
    copy = _serving_copy(tail)
    doomed = [] if copy is None else [(start, end) for found, start, end in _records(copy) or () if found == tag]
    if copy is None or not doomed:
        raise ValueError(f"no valid legacy record of tag {tag}")
    area = bytearray(copy[_RECORDS_OFFSET:_RECORDS_END])
    for start, end in reversed(doomed):
        del area[start - _RECORDS_OFFSET : end - _RECORDS_OFFSET]
    area.extend(bytes(_RECORDS_END - _RECORDS_OFFSET - len(area)))
    return _HEAD.pack(_MAGIC_HEAD, _checksum(area)) + area + _FOOT.pack(_MAGIC_FOOT)


def _serving_copy(tail: bytes | bytearray) -> bytes | None:
    copies = (bytes(tail[:COPY_SIZE_BYTES]), bytes(tail[COPY_SIZE_BYTES:TAIL_SIZE_BYTES]))
    return next((copy for copy in copies if _valid(copy)), None)


def _valid(copy: bytes) -> bool:
    if len(copy) != COPY_SIZE_BYTES:
        return False
    magic, checksum = _HEAD.unpack_from(copy)
    (foot,) = _FOOT.unpack_from(copy, _RECORDS_END)
    if (magic, foot) != (_MAGIC_HEAD, _MAGIC_FOOT):
        return False
    return bool(checksum == _checksum(copy[_RECORDS_OFFSET:_RECORDS_END])) and _records(copy) is not None


def _checksum(area: bytes | bytearray) -> int:
    words: tuple[int, ...] = _WORDS.unpack(area)
    return (_CHECKSUM_BASE - sum(words)) & 0xFFFFFFFF


def _records(copy: bytes) -> list[tuple[int, int, int]] | None:
    """Return (tag, start, end) of each record; None when one leaves the copy."""
    found: list[tuple[int, int, int]] = []
    offset = _RECORDS_OFFSET
    while offset + 2 <= _RECORDS_END and copy[offset] != 0:
        end = offset + 2 + copy[offset + 1]
        if end > _RECORDS_END:
            return None
        found.append((copy[offset], offset, end))
        offset = end
    return found
