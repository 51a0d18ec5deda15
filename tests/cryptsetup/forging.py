"""Headers as an attacker or an accident would leave them: changed bytes, and changed JSON with a right checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luksctl.cryptsetup.ondisk import Pread

HEADER_BYTES = 16384
_JSON_OFFSET = 4096
_CHECKSUM = slice(448, 512)


def reader(path: str) -> tuple[Pread, int]:
    """Return what `read_copies` takes for the file `path`."""
    content = Path(path).read_bytes()
    return reader_of(content), len(content)


def reader_of(content: bytes) -> Pread:
    """Return a reader of `content`."""
    return lambda offset, length: content[offset : offset + length]


def overwrite(path: str, offset: int, content: bytes) -> None:
    """Write `content` at `offset` of the file `path`."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, content, offset)
    finally:
        os.close(fd)


def seal(copy: bytearray) -> None:
    """Give one header copy the SHA-256 that belongs to it."""
    copy[_CHECKSUM] = bytes(64)
    copy[_CHECKSUM.start : _CHECKSUM.start + 32] = hashlib.sha256(copy).digest()


def forge_json(path: str, change: Callable[[dict[str, Any]], None], *, copies: tuple[int, ...] = (0, 1)) -> None:
    """Change the JSON area of the header `copies` of `path`, and make their checksums right again."""
    for number in copies:
        offset = number * HEADER_BYTES
        copy = bytearray(Path(path).read_bytes()[offset : offset + HEADER_BYTES])
        document = json.loads(copy[_JSON_OFFSET:].partition(b"\0")[0])
        change(document)
        text = json.dumps(document, separators=(",", ":")).encode()
        copy[_JSON_OFFSET:] = text.ljust(HEADER_BYTES - _JSON_OFFSET, b"\0")
        seal(copy)
        overwrite(path, offset, bytes(copy))
