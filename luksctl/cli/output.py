"""Write a file that an operator named: whole or not at all, readable by its owner alone."""

from __future__ import annotations

import os
import stat

from luksctl.errors import DeviceError


def write_output(path: str, content: bytes) -> None:
    """Put `content` in place of the file at `path`, whose mode and owner stay; a new one is its owner's alone.

    It is written beside, synced and renamed, and directories that are missing are made. Cut: the old file or the new
    one, whole, and perhaps a leftover beside it whose name ends in `.tmp`. A link stays, and what it leads to is
    replaced; a pipe or a device is written to.
    """
    path = os.path.realpath(path)
    try:
        there = _status(path)
        if there is not None and not stat.S_ISREG(there.st_mode):
            _write_through(path, content)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _replace(path, content, there)
    except OSError as error:
        raise DeviceError(f"{path} cannot be written: {error.strerror}") from error


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _write_through(path: str, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)


def _replace(path: str, content: bytes, there: os.stat_result | None) -> None:
    # A name that nobody can have made before: the directory may be one in which others write.
    temporary = f"{path}.{os.urandom(8).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if there is not None:
                if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
                    os.fchown(stream.fileno(), there.st_uid, there.st_gid)
                os.fchmod(stream.fileno(), stat.S_IMODE(there.st_mode))
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
