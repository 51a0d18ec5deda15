"""Locks that other processes can see: the whole disk's flock, a volume's own lock, and the sidecar of an image file.

All of them are flock(2) on an open descriptor: the kernel lets go when the process dies, whatever it dies of, and a
lock file that lies about means nothing. Lock files are never removed; removing one would let two processes each lock
a file of the same name. None of these locks is recursive.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.devices.medium import open_device
from luksctl.errors import Busy, DeviceError
from luksctl.hints import Final
from luksctl.model.probe import Device

LOCK_DIRECTORY: Final = "/run/luksctl"
_POLL_S: Final = 0.1


@contextmanager
def device_lock(device: Device, *, timeout_s: float) -> Iterator[None]:
    """Hold the lock that keeps others off while `device` is probed, formatted or partitioned.

    A partition is locked by its whole disk, as udevd and Talos do it (systemd: Locking Block Device Access). An image
    file is locked by `<image>.lock` beside it, since libcryptsetup takes the flock of the image itself and would wait
    for us for ever. Busy after `timeout_s`. Never wait for udev while this is held.
    """
    if device.image:
        path = f"{device.path}.lock"
        fd = _open_lock_file(path)
    else:
        path = device.disk or device.path
        fd = open_device(path, os.O_RDONLY)
    with _locked(fd, path, device.path, timeout_s):
        yield


@contextmanager
def volume_lock(volume: str, *, timeout_s: float, directory: str = LOCK_DIRECTORY) -> Iterator[None]:
    """Hold our own lock of `volume`, which lets one luksctl at a time change it; Busy after `timeout_s`."""
    if "/" in volume or volume in {"", ".", ".."}:
        raise ValueError(f"not a volume name: {volume!r}")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise DeviceError(f"{directory} cannot be made: {error.strerror}", volume=volume, operation="lock") from error
    path = f"{directory}/{volume}.lock"
    with _locked(_open_lock_file(path), path, f"volume {volume}", timeout_s):
        yield


def _open_lock_file(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(f"{path} cannot be opened: {error.strerror}", operation="lock") from error


@contextmanager
def _locked(fd: int, path: str, what: str, timeout_s: float) -> Iterator[None]:
    """Hold the flock of `fd`, which is closed at the end."""
    try:
        _acquire(fd, path, what, timeout_s)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, path: str, what: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _try_lock(fd, path):
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            holder = _holder(fd)
            by = f" by {holder}" if holder else ""
            cause = f"{what} is locked{by}; waited {timeout_s:g} s for the lock on {path}"
            raise Busy(cause, operation="lock", hint="wait for the other process to end, then try again")
        time.sleep(min(_POLL_S, remaining_s))


def _try_lock(fd: int, path: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise DeviceError(f"{path} cannot be locked: {error.strerror}", operation="lock") from error
    return True


def _holder(fd: int) -> str | None:
    """Return the process that holds the flock, for messages: proc(5), locks. None where the kernel does not tell."""
    status = os.fstat(fd)
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    for fields in lines:
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == inode:
            return _process(fields[4])
    return None


def _process(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"process {pid} ({file.read().strip()})"
    except OSError:
        return f"process {pid}"
