"""Which functions the installed libcryptsetup and libblkid have, and which version brings the others."""

from __future__ import annotations

import functools
from _thread import start_new_thread
from enum import IntEnum
from errno import ENOSYS

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.errors import DeviceError, MissingFunction
from luksctl.hints import Final
from luksctl.value import frozen

OLDEST_SUPPORTED: Final = "2.4"


class Library(IntEnum):
    """The two libraries of the table."""

    CRYPTSETUP = 0
    BLKID = 1


_PACKAGES: Final = {Library.CRYPTSETUP: "libcryptsetup12", Library.BLKID: "libblkid1"}


@frozen
class LibraryFunction:
    """One declared function: `since` is the version of its library that brought it."""

    name: str
    since: str
    library: Library
    index: int

    @property
    def present(self) -> bool:
        """Tell whether the opened library has it; opens the library if nobody did."""
        return bool(lib.luksctl_function_present(self.index))


@functools.cache
def functions() -> dict[str, LibraryFunction]:
    """Return every declared function by name."""
    found = {}
    for index in range(lib.luksctl_function_count()):
        name = ffi.string(lib.luksctl_function_name(index)).decode("ascii")
        since = ffi.string(lib.luksctl_function_since(index)).decode("ascii")
        found[name] = LibraryFunction(name, since, Library(lib.luksctl_function_library(index)), index)
    return found


def has(name: str) -> bool:
    """Tell whether the installed library has the function `name`; KeyError if nobody declared it."""
    return functions()[name].present


def require(name: str) -> None:
    """Raise MissingFunction, naming the version that brings it, unless the library has the function `name`."""
    function = functions()[name]
    if not function.present:
        raise missing(function)


def version(library: Library) -> str:
    """Return the newest version whose functions the installed library has, so it is that one or a little newer.

    DeviceError when it does not open.
    """
    present = {function.since for function in functions().values() if function.library is library and function.present}
    if not present:
        raise DeviceError(f"{_library_name(library)} cannot be opened ({open_error(library)})")
    return max(present, key=_numbers)


def problem() -> DeviceError | None:
    """Return why the installed libcryptsetup does not do: none opens, or it is too old; None where it does."""
    try:
        found = version(Library.CRYPTSETUP)
    except DeviceError as error:
        error.hint = error.hint or f"install {_PACKAGES[Library.CRYPTSETUP]} ({OLDEST_SUPPORTED} or newer)"
        return error
    if _numbers(found) >= _numbers(OLDEST_SUPPORTED):
        return None
    hint = f"install {_PACKAGES[Library.CRYPTSETUP]} {OLDEST_SUPPORTED} or newer"
    return DeviceError(f"libcryptsetup is {found} or little newer, and older than {OLDEST_SUPPORTED}", hint=hint)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def missing(function: LibraryFunction) -> MissingFunction:
    """Return the error for a call of `function`, which the library lacks."""
    reason = open_error(function.library)
    library = _library_name(function.library)
    package = _PACKAGES[function.library]
    if reason:
        return MissingFunction(
            f"{library} cannot be opened ({reason})",
            errno=ENOSYS,
            hint=f"install {package} ({OLDEST_SUPPORTED} or newer)",
        )
    return MissingFunction(
        f"this {library} has no {function.name}, which comes with {library} {function.since}",
        errno=ENOSYS,
        hint=f"install {package} {function.since} or newer",
    )


def open_ahead() -> None:
    """Have another thread open libcryptsetup, for those who have something else to load; a failure is the next call's.

    Opening takes no Python, so both go on at once; a call that needs the library meanwhile waits for it.
    """
    start_new_thread(lib.crypt_set_debug_level, (lib.CRYPT_DEBUG_NONE,))  # what prepare_library sets again


def open_library(library: Library, soname: str | None = None) -> None:
    """Open `soname` (None: the usual one) as `library` for the whole process, in place of what was open before.

    Call it, if at all, before the first handle is made. Raises DeviceError when the file does not open.
    """
    name = ffi.NULL if soname is None else soname.encode()
    if lib.luksctl_open(library, name) < 0:
        raise DeviceError(
            f"{_library_name(library)} cannot be opened ({open_error(library)})", hint=f"install {_PACKAGES[library]}"
        )


def disable_metadata_locking() -> None:
    """Stop locking headers in this process: for an initrd whose /run cannot be written (crypt_metadata_locking)."""
    lib.crypt_metadata_locking(ffi.NULL, 0)


def open_error(library: Library) -> str:
    """Return why `library` did not open, or an empty text."""
    return ffi.string(lib.luksctl_open_error(library)).decode(errors="replace")


def _library_name(library: Library) -> str:
    return f"lib{library.name.lower()}"
