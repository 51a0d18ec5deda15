"""Whether the installed libcryptsetup may re-encrypt: some versions of it corrupt data, and no function tells which."""

from __future__ import annotations

import functools
import re

from luksctl.cryptsetup.library import Library, version
from luksctl.hints import Final

# Fixed in 2.7.5: data that was re-encrypted while it was mounted could be corrupted.
_CORRUPTS_FROM: Final = (2, 7, 0)
_CORRUPTS_UP_TO: Final = (2, 7, 4)
# A string of its own in the library's read-only data: PACKAGE_VERSION.
_VERSION_IN_FILE: Final = re.compile(rb"\0(2\.\d{1,2}\.\d{1,2}(?:-[a-z0-9.]+)?)\0")


def why_not_reencrypt() -> str | None:
    """Say why this libcryptsetup must not re-encrypt; None where it may. One that hides its version may not either."""
    return objection_to(exact_version())


def objection_to(told: str | None) -> str | None:
    """Say why libcryptsetup of the version `told` must not re-encrypt, or None."""
    if told is None:
        return "this libcryptsetup does not tell its version, and 2.7.0 to 2.7.4 corrupt data while they re-encrypt"
    if _CORRUPTS_FROM <= tuple(int(part) for part in re.findall(r"\d+", told)[:3]) <= _CORRUPTS_UP_TO:
        return f"libcryptsetup {told} can corrupt data while it re-encrypts what is mounted; 2.7.5 and newer do not"
    return None


@functools.cache
def exact_version() -> str | None:
    """Return the version that stands in the opened library's file; None where none does, or more than one.

    DeviceError where no library opens. Whoever built it may have mended it without another version.
    """
    version(Library.CRYPTSETUP)  # opens it, if nobody did
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/libcryptsetup.so" in line}
    found: set[bytes] = set()
    for path in paths:
        with open(path, "rb") as file:
            found |= set(_VERSION_IN_FILE.findall(file.read()))
    return found.pop().decode("ascii") if len(found) == 1 else None
