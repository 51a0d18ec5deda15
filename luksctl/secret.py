"""Key material in memory that is locked, kept out of core dumps, wiped, and shown to nobody.

Python cannot promise that no copy of a secret exists: text parsed from YAML is a `str` nobody can wipe.
docs/threat-model.md lists every such place. A `Secret` is where bytes go on the line that receives them.
"""

from __future__ import annotations

import mmap
import os
from types import TracebackType

from luksctl.hints import Final, final

# MAP_LOCKED is not exported by the mmap module of Python 3.11; the value holds on x86, arm, arm64, riscv and s390.
_MAP_LOCKED: Final = 0x2000
_ZEROS: Final = bytes(16384)


def _map_memory(length: int) -> mmap.mmap:
    base_flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        memory = mmap.mmap(-1, length, flags=base_flags | _MAP_LOCKED)
    except OSError:
        # RLIMIT_MEMLOCK is used up (an ordinary user has 8 MiB): unlocked memory is better than no key.
        memory = mmap.mmap(-1, length, flags=base_flags)
    memory.madvise(mmap.MADV_DONTDUMP)
    memory.madvise(mmap.MADV_DONTFORK)
    return memory


def wipe(memory: bytearray | memoryview) -> None:
    """Zero `memory`, however large, without asking the kernel for as much memory to copy zeros from."""
    for offset in range(0, len(memory), len(_ZEROS)):
        part_bytes = min(len(_ZEROS), len(memory) - offset)
        memory[offset : offset + part_bytes] = _ZEROS[:part_bytes]


def _wipe(memory: mmap.mmap, length: int) -> None:
    if not memory.closed:
        memory[:length] = bytes(length)
        memory.close()


@final
class Secret:
    """Own `len(self)` bytes of key material; wiped by `with`, `close()` or, at the latest, garbage collection.

    `view()` gives the bytes without a copy (pass it to C through `ffi.from_buffer`); it must be released before
    `close()`, or `close()` raises BufferError and the bytes are already zero.
    """

    __slots__ = ("__weakref__", "_closed", "_length", "_memory")

    def __init__(self, length: int) -> None:
        """Allocate `length` (at least 1) zero bytes."""
        self._closed = True
        if length < 1:
            raise ValueError("a secret has at least one byte")
        self._length = length
        self._memory = _map_memory(length)
        self._closed = False

    @classmethod
    def take(cls, source: bytes | bytearray | memoryview) -> Secret:
        """Copy `source` in, and zero it where it is writable."""
        secret = cls(len(source))
        secret._memory[: len(source)] = source
        if isinstance(source, bytearray) or (isinstance(source, memoryview) and not source.readonly):
            source[:] = bytes(len(source))
        return secret

    @classmethod
    def random(cls, length: int) -> Secret:
        """Fill `length` bytes from the kernel's generator; waits until it is seeded (early boot)."""
        secret = cls(length)
        os.getrandom(1)  # blocks until seeded; reading the device below would not
        with open("/dev/urandom", "rb", buffering=0) as source, secret.view() as view:
            filled = 0
            while filled < length:
                filled += source.readinto(view[filled:])
        return secret

    @classmethod
    def join(cls, *parts: Secret | bytes) -> Secret:
        """Return a new secret holding `parts` one after the other; the parts stay as they are."""
        secret = cls(sum(len(part) for part in parts))
        offset = 0
        for part in parts:
            if isinstance(part, Secret):
                with part.view() as view:
                    secret._memory[offset : offset + len(part)] = view
            else:
                secret._memory[offset : offset + len(part)] = part
            offset += len(part)
        return secret

    @property
    def closed(self) -> bool:
        """Tell whether the bytes are gone, also where a view that was not released kept the memory mapped."""
        return self._closed

    def view(self) -> memoryview:
        """Return the bytes, writable and uncopied; use it in a `with`."""
        if self.closed:
            raise ValueError("this secret was closed")
        return memoryview(self._memory)[: self._length]

    def close(self) -> None:
        """Zero and unmap the bytes; a second call does nothing."""
        if not self._closed:
            self._closed = True
            _wipe(self._memory, self._length)

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Secret:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        """Compare in constant time; closed secrets equal only themselves."""
        if not isinstance(other, Secret):
            return NotImplemented
        if self is other:
            return True
        if self.closed or other.closed:
            return False
        with self.view() as mine, other.view() as theirs:
            import hmac  # noqa: PLC0415  # seldom needed, and part of every start otherwise

            return hmac.compare_digest(mine, theirs)

    __hash__ = None  # type: ignore[assignment]  # a hash would leak and invites use as a dict key

    def __repr__(self) -> str:
        return "Secret(REDACTED)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "REDACTED"

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")
