"""Replace a small file or a link so that a reader finds the old one or the new one, whole, whatever happens."""

from __future__ import annotations

import fcntl
import os

from luksctl.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedWriter


def replace_file(path: str, content: bytes, *, mode: int = 0o600, keep_owner: bool = False) -> None:
    """Write `content` beside `path`, sync it, rename it over, and sync the directory.

    `keep_owner`: where root writes, the new file belongs to whom the old one did.

    Cut: the old file, and perhaps a leftover `.new` file that the next call overwrites. Several processes may do it at
    once: one of their files is there at the end, whole.
    """
    temporary = f"{path}.new"
    with os.fdopen(_open_alone(temporary), "wb") as stream:
        if keep_owner and os.geteuid() == 0:
            old = os.lstat(path)
            os.fchown(stream.fileno(), old.st_uid, old.st_gid)
        _fill(stream, content, mode)
        os.rename(temporary, path)
    sync_directory(os.path.dirname(path) or ".")


def create_file(path: str, content: bytes, *, mode: int = 0o600) -> bool:
    """Make a file that is never replaced; tell whether it was made, or was there already and is left as it is.

    Either way file and name are on the medium when it returns. Cut: no file, and perhaps a leftover `.new` that the
    next call writes over, or the whole one. Of several processes at once, one makes it.
    """
    temporary = f"{path}.new"
    made = False
    if not os.path.lexists(path):
        with os.fdopen(_open_alone(temporary), "wb") as stream:
            made = not os.path.lexists(path)
            if made:
                _fill(stream, content, mode)
                os.rename(temporary, path)
            else:
                os.unlink(temporary)
    if not made:
        _sync_file(path)
    sync_directory(os.path.dirname(path) or ".")
    return made


def replace_link(path: str, destination: str) -> None:
    """Make `path` a link to `destination`, by rename; not synced, so only for directories that a reboot empties."""
    temporary = f"{path}.{os.getpid()}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(destination, temporary)
    os.rename(temporary, path)


def remove_leftover(path: str) -> None:
    """Remove the `.new` file at `path` that a cut left, unless somebody is writing it now, and will rename it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, descriptor):
            os.unlink(path)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def read_file(path: str) -> bytes | None:
    """Return the content of `path`, or None where there is no such file."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def sync_directory(path: str) -> None:
    """Return when the names in the directory are on the medium."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _fill(stream: BufferedWriter, content: bytes, mode: int) -> None:
    os.fchmod(stream.fileno(), mode)
    os.ftruncate(stream.fileno(), 0)
    stream.write(content)
    stream.flush()
    os.fsync(stream.fileno())


def _sync_file(path: str) -> None:
    """Return when a file that another process made is on the medium: that one may have been killed before its sync."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_alone(path: str) -> int:
    """Return a descriptor of the file at `path` that nobody else writes: the flock ends with the descriptor.

    Whoever waited for the lock may hold what the other one has renamed away by then, and opens the name once more.
    """
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
