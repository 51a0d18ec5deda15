"""One `struct crypt_device`: who may use it, when it is given back, and how every call on it is made."""

from __future__ import annotations

import errno
import functools
import json
import os
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.callbacks import CallState, ProgressCallback, thread_state
from luksctl.cryptsetup.failure import Operation, check
from luksctl.cryptsetup.kdf import MEMORY_WORTH_ASKING_KIB, Kdf, KdfBounds, heaviest_keyslot, pbkdf_parameters
from luksctl.hints import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, final

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import Chars, CryptDevice, Null, Out
    from luksctl.cryptsetup._libcryptsetup import Handle as UserData

LUKS2: Final = b"LUKS2"
ANY_SLOT: Final = lib.CRYPT_ANY_SLOT
# Every libcryptsetup has it: if it is missing, the library itself is.
_BASIC: Final = "crypt_init"
_Arguments = ParamSpec("_Arguments")


@functools.cache
def prepare_library() -> None:
    """Make the library quiet and without plug-ins, once per process; before any call that can log."""
    # Without a callback the library prints to stdout and stderr by itself.
    lib.crypt_set_log_callback(ffi.NULL, lib.luksctl_on_log, ffi.NULL)
    lib.crypt_set_debug_level(lib.CRYPT_DEBUG_NONE)
    # Tokens are data to us: a plug-in of the system would run as root because of a word in a header.
    lib.crypt_token_external_disable()


@final
class Handle:
    """Own one crypt_device; used by the thread that made it until `close()`.

    Forgetting `close()` frees it at garbage collection, with a ResourceWarning.
    """

    __slots__ = (
        "__weakref__",
        "_busy",
        "_closed",
        "_metadata",
        "_owned_fds",
        "_pointer",
        "_state",
        "_thread",
        "bounds",
        "in_memory",
        "path",
    )

    def __init__(self, pointer: CryptDevice, path: str, bounds: KdfBounds, owned_fds: tuple[int, ...] = ()) -> None:
        self.path = path
        self.bounds = bounds
        self.in_memory = bool(owned_fds)
        self._pointer = pointer
        self._thread = get_ident()
        self._busy = False
        self._metadata: dict[str, Any] | None = None
        self._state = CallState()
        self._owned_fds = owned_fds
        self._closed = False
        lib.crypt_set_log_callback(pointer, lib.luksctl_on_log, self._state.userdata)

    @property
    def closed(self) -> bool:
        """Tell whether the handle was given back."""
        return self._closed

    @property
    def pointer(self) -> CryptDevice:
        """Return the C handle.

        ValueError after `close()`; RuntimeError in another thread than the one that made it, or inside a callback.
        """
        if self.closed:
            raise ValueError(f"the libcryptsetup handle of {self.path} is closed")
        self._check_free()
        return self._pointer

    def close(self) -> None:
        """Free the handle; a second call does nothing. RuntimeError where it may not be used either."""
        if not self.closed:
            self._check_free()
            self._release()

    def __del__(self) -> None:
        if not self._closed:
            self._release()
            import warnings  # noqa: PLC0415  # a boot forgets none, and its start is timed

            warnings.warn(f"the libcryptsetup handle of {self.path} was never closed", ResourceWarning, stacklevel=2)

    def _release(self) -> None:
        self._closed = True
        lib.crypt_free(self._pointer)
        self._state.begin()  # the library may have logged into it until now, so it lives as long as the handle
        for fd in self._owned_fds:
            os.close(fd)

    def _check_free(self) -> None:
        # Freeing or using it while C works on it, without the GIL, would be a use after free.
        if get_ident() != self._thread:
            raise RuntimeError(f"the libcryptsetup handle of {self.path} belongs to another thread")
        if self._busy:
            raise RuntimeError(f"the libcryptsetup handle of {self.path} is at work: not from a callback")

    def run(
        self,
        operation: Operation,
        function: Callable[Concatenate[CryptDevice, _Arguments], int],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> int:
        """Call `function` on the handle; return its result, raise what it stands for, or what a callback raised."""
        pointer = self.pointer
        self._state.begin()
        try:
            self._busy = True
            rc = function(pointer, *args, **kwargs)
        finally:
            self._busy = False
        self._state.finish()
        if rc == -errno.ENOSYS:
            self.require(getattr(function, "__name__", _BASIC))
        return check(rc, operation, self._state.log())

    def change(
        self,
        operation: Operation,
        function: Callable[Concatenate[CryptDevice, _Arguments], int],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> int:
        """Do as `run`, for a call that changes the header: what was read of it is read again."""
        self._metadata = None
        return self.run(operation, function, *args, **kwargs)

    @property
    def logged_error(self) -> str | None:
        """Return the first error that the last call logged, though it may have succeeded."""
        return self._state.log().first_error

    @contextmanager
    def progress_to(self, progress: ProgressCallback | None) -> Iterator[UserData]:
        """Send the progress of the calls inside the `with` to `progress`; give what C must hand to the callback."""
        self._state.progress = progress
        try:
            yield self._state.userdata
        finally:
            self._state.progress = None

    def operation(self, name: str, slot: int | None = None) -> Operation:
        """Return an operation on this handle's device."""
        return Operation(name, self.path, slot)

    def unlocking(self, name: str, slot: int | None = None) -> Operation:
        """Return an operation in which a key may be the wrong one."""
        return Operation(name, self.path, slot, unlocks=True)

    def require(self, function: str) -> None:
        """Raise MissingFunction unless the library has `function`."""
        _require(function)

    def set_kdf(self, kdf: Kdf) -> None:
        """Set what the next keyslot or digest written by this handle costs; never benchmarks.

        EINVAL below the library's minimum: Argon2 time 4, memory 32 KiB; PBKDF2 1000 iterations.
        """
        with pbkdf_parameters(kdf) as parameters:
            self.run(self.operation("set the key derivation costs"), lib.crypt_set_pbkdf_type, parameters)

    def metadata_json(self) -> str:
        """Return the JSON area of the loaded header (crypt_dump_json)."""
        text: Out[Chars] = ffi.new("const char **")
        self.run(self.operation("read the metadata"), lib.crypt_dump_json, text, 0)
        return ffi.string(text[0]).decode()

    def metadata(self) -> dict[str, Any]:
        """Return the parsed JSON area; parsed once until something changes it."""
        if self._metadata is None:
            self._metadata = json.loads(self.metadata_json())
        return self._metadata

    def check_bounds(self, slot: int | None) -> None:
        """Raise KdfOutOfBounds if unlocking `slot` (None: any) would cost more than the bounds allow."""
        self.bounds.check(self.metadata(), slot, self.path)

    @contextmanager
    def deriving(self, slot: int | None, *, unlocks: bool = True, new: Kdf | None = None) -> Iterator[None]:
        """Hold the memory that unlocking `slot` (None: any) or writing a slot that costs `new` takes.

        Without `unlocks` only `new` counts. Raises KdfOutOfBounds or KdfOutOfMemory before anything is derived.
        """
        heaviest: tuple[int | None, int] = (slot, getattr(new, "memory_kib", 0))
        if unlocks:
            self.check_bounds(slot)
            heaviest = max(heaviest, heaviest_keyslot(self.metadata(), slot), key=lambda pair: pair[1])
        number, needed_kib = heaviest
        if self.bounds.memory is None or needed_kib < MEMORY_WORTH_ASKING_KIB:
            yield
            return
        with self.bounds.memory().reserve(needed_kib, number, self.path):
            yield

    def check_digests(self) -> None:
        """Raise KdfOutOfBounds if verifying a volume key would cost more than the bounds allow."""
        self.bounds.check_digests(self.metadata(), self.path)


def run_without_handle(operation: Operation, call: Callable[[], int]) -> int:
    """Make a call that has no handle; return its result, or raise what it stands for."""
    prepare_library()
    state = thread_state()
    state.begin()
    rc = call()
    state.finish()
    if rc == -errno.ENOSYS:
        _require(_BASIC)
    return check(rc, operation, state.log())


def make_handle(
    init: Callable[[Out[CryptDevice]], int], operation: Operation, bounds: KdfBounds, owned_fds: tuple[int, ...] = ()
) -> Handle:
    """Make a handle by one of the crypt_init functions; `owned_fds` are closed with it, or at once if it fails."""
    out = ffi.new("struct crypt_device **")
    try:
        run_without_handle(operation, lambda: init(out))
    except BaseException:
        for fd in owned_fds:
            os.close(fd)
        raise
    return Handle(out[0], operation.subject, bounds, owned_fds)


def _require(function: str) -> None:
    from luksctl.cryptsetup.library import require  # noqa: PLC0415  # only where something is missing

    require(function)


def optional_text(text: str | None) -> bytes | Null:
    """Return `text` as C wants it, NULL for None."""
    return ffi.NULL if text is None else text.encode()
