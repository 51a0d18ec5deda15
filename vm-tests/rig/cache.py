"""Directories kept between runs, each under the hash of everything it was made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rig.host import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

GUESTS_AT_ONCE = 2
IN_USE_S = 3 * 3600.0


def fingerprint(parts: Iterable[bytes]) -> str:
    """Hash the parts, each with its length, so that no two lists of parts meet in one name."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of this name against every other process that uses this checkout."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def built(kind: str, key: str, build: Callable[[Path], None], *, keep: int = 2) -> Path:
    """Return the directory of this kind and key, building it first if nobody has.

    Two processes that ask at once build once. A build that stops halfway leaves a directory that is never taken for
    a finished one: it gets its name by a rename at the end. The newest `keep` directories of a kind survive,
    and those that were asked for in the last three hours.
    """
    ready = CACHE / kind / key[:32]
    if ready.is_dir():
        os.utime(ready)
        return ready
    with locked(kind):
        if ready.is_dir():
            return ready
        ready.parent.mkdir(parents=True, exist_ok=True)
        for unfinished in ready.parent.glob("building-*"):  # of a process that was killed: nobody else holds the lock
            shutil.rmtree(unfinished, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="building-", dir=ready.parent))
        try:
            build(work)
            work.rename(ready)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        _prune(ready, keep)
    return ready


def _prune(newest: Path, keep: int) -> None:
    """Remove all but the newest directories, none of them in its first hours: another test run may still use it."""
    others = [(path.stat().st_mtime, path) for path in newest.parent.iterdir() if path.is_dir() and path != newest]
    others.sort(reverse=True)
    for used_at, old in others[keep - 1 :]:
        if used_at < time.time() - IN_USE_S:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def guest_slot() -> Iterator[None]:
    """Wait for one of the few places for a running guest: more of them at once only slow each other down."""
    CACHE.mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(GUESTS_AT_ONCE):
            with (CACHE / f"guest-{number}.lock").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
        time.sleep(0.2)
