"""Replace a small file so that a reader finds the old one or the new one, whole, whatever happens."""

from __future__ import annotations

import os


def replace_file(path: str, content: bytes, *, mode: int = 0o600) -> None:
    """Write `content` beside `path`, sync it, rename it over, and sync the directory.

    Cut: the old file, and perhaps a leftover `.new` file that the next call overwrites.
    """
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_file(path: str) -> bytes | None:
    """Return the content of `path`, or None where there is no such file."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
