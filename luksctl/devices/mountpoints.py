"""The directory under a mount point: empty, mode 0000, immutable, so that nothing is written below a locked volume."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.devices.tree import BlockTree
from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.value import frozen

# linux/fs.h: _IOR('f', 1, long) and _IOW('f', 2, long); the kernel reads and writes an int all the same.
_LONG_BYTES: Final = struct.calcsize("l")
_FS_IOC_GETFLAGS: Final = 0x80006601 | _LONG_BYTES << 16
_FS_IOC_SETFLAGS: Final = 0x40006602 | _LONG_BYTES << 16
_FS_IMMUTABLE_FL: Final = 0x10
_NOT_HERE: Final = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@frozen
class Sealed:
    """The directory is empty, mode 0000 and immutable."""

    path: str


@frozen
class NotSealable:
    """Empty and mode 0000, but `reason` keeps it from being immutable: bind an empty directory over it, read-only."""

    path: str
    reason: str


@frozen
class MountedOver:
    """Something is mounted there now, so the directory below cannot be seen; nothing was changed."""

    path: str


Prepared = Sealed | NotSealable | MountedOver


def prepare(path: str, tree: BlockTree) -> Prepared:
    """Make the directory at `path` and seal it; does nothing more to one that is sealed already.

    DeviceError where it is not empty (what is in it would be hidden by the mount, and may be plain text of an earlier
    boot), is no directory, or its path leads through a symbolic link at its end. Cut: a directory that the next run
    finishes.
    """
    if any(os.path.realpath(path) == target for _, _, target in tree.mounts()):
        return MountedOver(path)
    try:
        _make(path)
    except OSError as error:
        raise _failure(path, error) from error
    with _directory(path) as fd:
        _require_empty(fd, path)
        try:
            flags = _get_flags(fd)
            if not flags & _FS_IMMUTABLE_FL:
                os.fchmod(fd, 0)
                _set_flags(fd, flags | _FS_IMMUTABLE_FL)
        except OSError as error:
            return _unsealed(fd, path, error)
        _require_empty(fd, path)  # from here on nothing can be added, so this look is the one that counts
        os.fsync(fd)
    _sync_parent(path)
    return Sealed(path)


def _make(path: str) -> None:
    """Make the directory and those above it, mode 0755 whatever the umask: services reach the volume through them."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory)
        os.chmod(directory, 0o755)  # noqa: S103  # as makedirs, without the umask


def unprepare(path: str) -> None:
    """Make the directory an ordinary one again, mode 0755; it stays. A missing one is fine; DeviceError otherwise."""
    if not os.path.lexists(path):
        return
    with _directory(path) as fd:
        try:
            flags = _get_flags(fd)
            if flags & _FS_IMMUTABLE_FL:
                _set_flags(fd, flags & ~_FS_IMMUTABLE_FL)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise _failure(path, error) from error
        os.fchmod(fd, 0o755)
        os.fsync(fd)


def _unsealed(fd: int, path: str, error: OSError) -> NotSealable:
    """Take the refusal of the flag as an answer where the filesystem or the capabilities do not allow it."""
    if error.errno in _NOT_HERE:
        reason = f"its filesystem has no immutable flag ({error.strerror})"
    elif error.errno == errno.EPERM:
        reason = "this process may not set the immutable flag (CAP_LINUX_IMMUTABLE)"
    else:
        raise _failure(path, error) from error
    os.fchmod(fd, 0)
    return NotSealable(path, reason)


@contextmanager
def _directory(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _failure(path, error) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _require_empty(fd: int, path: str) -> None:
    names = sorted(os.listdir(fd))
    if names:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise DeviceError(
            f"the directory under the mount point {path} is not empty: {shown}",
            operation="prepare",
            hint=f"look at what is in {path}, move it away, then try again",
        )


def _get_flags(fd: int) -> int:
    flags: int = struct.unpack_from("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(_LONG_BYTES)))[0]
    return flags


def _set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags).ljust(_LONG_BYTES, b"\0"))


def _sync_parent(path: str) -> None:
    with _directory(os.path.dirname(os.path.realpath(path))) as fd:
        os.fsync(fd)


def _failure(path: str, error: OSError) -> DeviceError:
    return DeviceError(f"the directory at {path} cannot be prepared: {error.strerror}", operation="prepare")
