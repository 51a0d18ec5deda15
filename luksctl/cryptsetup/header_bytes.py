"""A LUKS2 header as the bytes of a backup file: both copies and the key areas, as `cryptsetup luksHeaderBackup` does.

Unlike that command, nothing is taken along that no keyslot names: there, what slots held that were removed may be left.
Layout of a copy: LUKS2 On-Disk Format Specification 1.1, section 2.1.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct

from luksctl.cryptsetup.header_image import HeaderImage, copy_header
from luksctl.cryptsetup.metadata import parse_metadata
from luksctl.cryptsetup.ondisk import BINARY_SIZE_BYTES, FIRST_MAGIC, SECOND_MAGIC
from luksctl.errors import DeviceError
from luksctl.hints import Final

_MAGIC: Final = slice(0, 6)
_SEQID: Final = slice(16, 24)
_CHECKSUM_HASH: Final = slice(72, 104)
_SALT: Final = slice(104, 168)
_OFFSET: Final = slice(256, 264)
_CHECKSUM: Final = slice(448, 512)


def backup_of(image: HeaderImage) -> bytes:
    """Return the content of a backup file: as long as the header, zeros where no keyslot has its key area."""
    size_bytes = image.header.header_size_bytes
    content = bytearray(image.size_bytes)
    for offset in (0, size_bytes):
        content[offset : offset + size_bytes] = header_copy(image, offset, seqid=image.header.seqid)
    for offset, piece in key_areas(image).items():
        content[offset : offset + len(piece)] = piece
    return bytes(content)


def read_backup(content: bytes) -> HeaderImage:
    """Return the header that a backup file holds; DeviceError where there is none, or its parts are not all there."""
    try:
        return copy_header(lambda offset, length: content[offset : offset + length], len(content))
    except DeviceError as error:
        raise DeviceError(f"this is no whole backup of a LUKS2 header: {error.cause}", operation="read it") from error


def key_areas(image: HeaderImage) -> dict[int, bytes]:
    """Return the content of every key area by its offset."""
    contents = dict(image.pieces)
    return {area.offset_bytes: contents[area.offset_bytes] for area in parse_metadata(image.header.json).areas}


def header_copy(image: HeaderImage, offset_bytes: int, *, seqid: int, text: bytes | None = None) -> bytes:
    """Return the header of `image` as the copy that stands at `offset_bytes`, with a salt and checksum of its own.

    `text` is another JSON area in place of its own; DeviceError where that is too long.
    """
    size_bytes = image.header.header_size_bytes
    copy = bytearray(_checked_copy(image))
    copy[_MAGIC] = SECOND_MAGIC if offset_bytes else FIRST_MAGIC
    copy[_SEQID] = struct.pack(">Q", seqid)
    copy[_SALT] = os.urandom(_SALT.stop - _SALT.start)
    copy[_OFFSET] = struct.pack(">Q", offset_bytes)
    if text is not None:
        if len(text) >= size_bytes - BINARY_SIZE_BYTES:
            raise DeviceError("the header is too full for what has to be written there", operation="write the header")
        copy[BINARY_SIZE_BYTES:] = text.ljust(size_bytes - BINARY_SIZE_BYTES, b"\0")
    name = bytes(copy[_CHECKSUM_HASH]).partition(b"\0")[0].decode()
    copy[_CHECKSUM] = bytes(_CHECKSUM.stop - _CHECKSUM.start)
    digest = hashlib.new(name, copy, usedforsecurity=False).digest()
    copy[_CHECKSUM.start : _CHECKSUM.start + len(digest)] = digest
    return bytes(copy)


def _checked_copy(image: HeaderImage) -> bytes:
    """Return the very bytes of the copy that was checked, which may have been read in pieces."""
    areas = {area.offset_bytes for area in parse_metadata(image.header.json).areas}
    pieces = sorted(piece for piece in image.pieces if piece[0] not in areas)
    start = pieces[0][0]
    copy = bytearray(image.header.header_size_bytes)
    for offset, piece in pieces:
        part = piece[: start + len(copy) - offset]
        copy[offset - start : offset - start + len(part)] = part
    return bytes(copy)


def moved(text: str, offsets: dict[int, int]) -> bytes:
    """Return the JSON area `text` with the key areas of keyslots at other `offsets`."""
    document = json.loads(text)
    for slot, offset in offsets.items():
        document["keyslots"][str(slot)]["area"]["offset"] = str(offset)
    return json.dumps(document, separators=(",", ":")).encode()
