"""Files that outlast a power cut: not there, or whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress

from luksctl.devices.medium import flush


def save_pieces(path: str, pieces: Iterable[bytes]) -> str:
    """Make a file of `pieces`, for nobody else to read, sync it and its directory, and return its SHA-256.

    Raises OSError, and leaves nothing then. Cut: the file of before, or none, or all of it.
    """
    temporary, found = unfinished(path), hashlib.sha256()
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            position = 0
            for piece in pieces:
                write_fully(fd, piece, position)
                found.update(piece)
                position += len(piece)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    flush(os.path.dirname(path))
    return found.hexdigest()


def unfinished(path: str) -> str:
    """Return the file that becomes the one at `path` when it is whole."""
    return f"{path}.new"


def write_fully(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; raises OSError. Cut: some of it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
