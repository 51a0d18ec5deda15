"""Memory for key derivations: asked for before one starts, so that none ends in the kernel's out-of-memory killer.

All processes of this machine share one amount. Each holds a range of bytes, one byte per KiB, of a lock file for as
long as its derivation runs: open file description locks (fcntl(2)), which the kernel drops with the process. The file
stays empty, and one that lies about means nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luksctl.errors import Busy, DeviceError, KdfOutOfMemory
from luksctl.hints import Final
from luksctl.model.config import DEFAULT_KDF
from luksctl.units import KIB, format_size
from luksctl.value import frozen

# struct flock: type, whence, start, length, process; the last is 0 for these locks.
_FLOCK: Final = "hhqqi0q"
_POLL_S: Final = 0.05


@frozen
class KdfMemory:
    """What key derivations may use of the memory of this machine.

    `available_kib` returns what the kernel could give without swapping, None where it does not say. All together
    use at most `shared_kib` at a time; one that needs more runs alone. Where less than that is available, each runs
    alone. `timeout_s` bounds the wait for the others: the costliest one that is accepted takes about 80 s.
    """

    available_kib: Callable[[], int | None]
    lock_path: str
    shared_kib: int = DEFAULT_KDF.memory_kib
    timeout_s: float = 90.0

    @contextmanager
    def reserve(self, needed_kib: int, slot: int | None, subject: str) -> Iterator[None]:
        """Hold `needed_kib` for a derivation of keyslot `slot` on `subject` while the `with` lasts.

        Raises KdfOutOfMemory, Busy after `timeout_s`, and DeviceError where the lock file cannot be opened.
        """
        available_kib = self.available_kib()
        alone = available_kib is not None and available_kib < self.shared_kib
        fd = _open(self.lock_path)
        try:
            self._acquire(fd, self.shared_kib if alone else min(needed_kib, self.shared_kib), subject)
            # Asked again: whoever ran before may have given back what was missing.
            self._expect_enough(needed_kib, slot, subject)
            yield
        finally:
            os.close(fd)

    def _acquire(self, fd: int, size_kib: int, subject: str) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not _lock_first_free(fd, size_kib, self.shared_kib):
            if time.monotonic() >= deadline:
                raise Busy(
                    f"other key derivations held the memory for {self.timeout_s:g} s",
                    volume=subject,
                    operation="wait for memory",
                    hint="wait for the other luksctl to end, then try again",
                )
            time.sleep(_POLL_S)

    def _expect_enough(self, needed_kib: int, slot: int | None, subject: str) -> None:
        available_kib = self.available_kib()
        if available_kib is None or needed_kib <= available_kib:
            return
        needed, available = format_size(needed_kib * KIB), format_size(available_kib * KIB)
        raise KdfOutOfMemory(
            f"the key derivation needs {needed} of memory, and {available} are available; it was not started",
            errno=errno.ENOMEM,
            volume=subject,
            slot=slot,
            operation="reserve memory",
            hint="free memory, give the machine more, or use a key whose slot needs less (kdf.memory in the policy)",
        )


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(f"{path} cannot be opened: {error.strerror}", operation="reserve memory") from error


def _lock_first_free(fd: int, size: int, end: int) -> bool:
    """Lock the first `size` bytes below `end` that nobody holds; False where no such gap is left."""
    start = 0
    while start + size <= end:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, size, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise DeviceError(f"no memory lock: {error.strerror}", operation="reserve memory") from error
        else:
            return True
        kind, _, held_from, held_length, _ = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted))
        if kind != fcntl.F_UNLCK:
            start = held_from + held_length
    return False
