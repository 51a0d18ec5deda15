"""One copy of the Talos ADV: bytes ↔ tags. Pure; store.py decides which copy is read and written when.

Layout, all numbers big-endian (Talos internal/pkg/meta/internal/adv/talos):

    0x00000       4  magic 5A 4B 3C 2D
    0x00004  262104  records: tag u32, size u32, value; tag 0 or fewer than 8 bytes left end the list; the rest is zero
    0x3FFDC      32  SHA-256 of the whole copy with these 32 bytes as zeros
    0x3FFFC       4  magic A5 B4 C3 D2

META has copy A at 0 and copy B at 256 KiB.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

from luksctl.errors import MetaError
from luksctl.hints import Final
from luksctl.units import KIB

COPY_SIZE_BYTES: Final = 256 * KIB
COPY_A_OFFSET: Final = 0
COPY_B_OFFSET: Final = COPY_SIZE_BYTES

_MAGIC_HEAD: Final = bytes.fromhex("5a4b3c2d")
_MAGIC_TAIL: Final = bytes.fromhex("a5b4c3d2")
_RECORD_HEAD: Final = struct.Struct(">II")
_RECORDS_OFFSET: Final = len(_MAGIC_HEAD)
_DIGEST_OFFSET: Final = COPY_SIZE_BYTES - 36
_DIGEST_SIZE_BYTES: Final = 32
CAPACITY_BYTES: Final = _DIGEST_OFFSET - _RECORDS_OFFSET

FIRST_TAG: Final = 1
LAST_TAG: Final = 255


def check_tag(tag: int) -> None:
    """Raise MetaError unless `tag` is one that Talos keeps: 1 to 255 (0 ends the list)."""
    if not FIRST_TAG <= tag <= LAST_TAG:
        raise MetaError(f"tag {tag} is outside {FIRST_TAG} to {LAST_TAG}", volume="META")


def encode(records: Mapping[int, bytes | bytearray]) -> bytearray:
    """Return one copy that holds `records` in ascending order of tag; MetaError if they do not fit.

    Equal records give equal bytes, which Talos' own writer (random order) does not promise. The caller wipes the
    result: tag 9 can hold a passphrase.
    """
    needed_bytes = sum(_RECORD_HEAD.size + len(value) for value in records.values())
    if needed_bytes > CAPACITY_BYTES:
        raise MetaError(
            f"the tags need {needed_bytes} bytes, and {CAPACITY_BYTES} fit",
            volume="META",
            operation="write",
            hint="delete a tag that is not needed: luksctl meta list, luksctl meta delete KEY",
        )
    copy = bytearray(COPY_SIZE_BYTES)
    copy[:_RECORDS_OFFSET] = _MAGIC_HEAD
    copy[-len(_MAGIC_TAIL) :] = _MAGIC_TAIL
    offset = _RECORDS_OFFSET
    for tag in sorted(records):
        check_tag(tag)
        value = records[tag]
        _RECORD_HEAD.pack_into(copy, offset, tag, len(value))
        offset += _RECORD_HEAD.size
        copy[offset : offset + len(value)] = value
        offset += len(value)
    copy[_DIGEST_OFFSET : _DIGEST_OFFSET + _DIGEST_SIZE_BYTES] = _digest(copy)
    return copy


def decode(copy: bytes | bytearray) -> dict[int, bytes]:
    """Return the tags of one valid copy, ascending; of a tag that is there twice, the last (as Talos).

    MetaError says what is wrong: size, magic, checksum, a record that leaves the copy, or a tag above 255. Nothing of
    a damaged copy is returned.
    """
    if len(copy) != COPY_SIZE_BYTES:
        raise MetaError(f"{len(copy)} bytes long, not {COPY_SIZE_BYTES}")
    if copy[:_RECORDS_OFFSET] != _MAGIC_HEAD:
        raise MetaError("the magic at its start is missing")
    if copy[-len(_MAGIC_TAIL) :] != _MAGIC_TAIL:
        raise MetaError("the magic at its end is missing")
    stored = bytes(copy[_DIGEST_OFFSET : _DIGEST_OFFSET + _DIGEST_SIZE_BYTES])
    if stored != _digest(copy):
        raise MetaError("the checksum does not match")
    return _decode_records(copy)


def _decode_records(copy: bytes | bytearray) -> dict[int, bytes]:
    records: dict[int, bytes] = {}
    offset = _RECORDS_OFFSET
    while offset + _RECORD_HEAD.size <= _DIGEST_OFFSET:
        tag, size_bytes = _RECORD_HEAD.unpack_from(copy, offset)
        if tag == 0:
            break
        if tag > LAST_TAG:
            # Talos would take it modulo 256 and so for another tag; no writer makes such a record.
            raise MetaError(f"a record has tag {tag}, above {LAST_TAG}")
        offset += _RECORD_HEAD.size
        if size_bytes > _DIGEST_OFFSET - offset:
            raise MetaError(f"the record of tag {tag} leaves the copy")
        records[tag] = bytes(copy[offset : offset + size_bytes])
        offset += size_bytes
    return dict(sorted(records.items()))


def _digest(copy: bytes | bytearray) -> bytes:
    digest = hashlib.sha256()
    with memoryview(copy) as view:
        digest.update(view[:_DIGEST_OFFSET])
        digest.update(bytes(_DIGEST_SIZE_BYTES))
        digest.update(view[_DIGEST_OFFSET + _DIGEST_SIZE_BYTES :])
    return digest.digest()
