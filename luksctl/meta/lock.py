"""The flock that META is written under: the whole disk's node, or a sidecar file for an image."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from luksctl.errors import Busy, MetaError
from luksctl.hints import Final

# As often as Talos tries; flock itself knows no timeout.
_RETRY_S: Final = 0.1


class LockMode(Enum):
    """Who else may hold the lock at the same time."""

    SHARED = fcntl.LOCK_SH
    EXCLUSIVE = fcntl.LOCK_EX


@contextmanager
def locked(path: str, mode: LockMode, *, timeout_s: float, create: bool) -> Iterator[None]:
    """Hold the flock of `path`; `create` makes a sidecar file where there is none.

    To share a lock that does not exist is to read where nobody ever wrote: there is nothing to wait for.
    Busy when it was not free within `timeout_s`, MetaError when the lock's node cannot be opened. The node is opened
    read-only, so closing it is no event for udev. The lock goes with the process, whatever ends it.
    """
    if mode is LockMode.SHARED and not create and not os.path.exists(path):
        yield
        return
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise MetaError(f"cannot open the lock {path}: {error.strerror}", volume="META", operation="lock") from error
    try:
        _wait(descriptor, path, mode, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: str, mode: LockMode, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, mode.value | fcntl.LOCK_NB)
        except BlockingIOError as error:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise Busy(
                    f"another process held {path} for {timeout_s:g} s",
                    volume="META",
                    operation="lock",
                    hint=f"see who it is (lslocks, fuser {path}) and try again",
                ) from error
            time.sleep(min(_RETRY_S, remaining_s))
        else:
            return
