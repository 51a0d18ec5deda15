"""Overwriting a range of a device, with progress."""

from __future__ import annotations

from enum import IntEnum

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.callbacks import ProgressCallback
from luksctl.cryptsetup.handle import Handle
from luksctl.hints import Final
from luksctl.units import MIB

_BLOCK_BYTES: Final = 1 * MIB


class WipePattern(IntEnum):
    """What is written (crypt_wipe_pattern)."""

    ZERO = lib.CRYPT_WIPE_ZERO
    RANDOM = lib.CRYPT_WIPE_RANDOM
    ENCRYPTED_ZERO = lib.CRYPT_WIPE_ENCRYPTED_ZERO


def wipe_range(
    handle: Handle, pattern: WipePattern, offset_bytes: int, length_bytes: int, progress: ProgressCallback | None
) -> None:
    """Overwrite `length_bytes` from `offset_bytes` on the data device, both multiples of 512, and sync (crypt_wipe)."""
    if length_bytes < 1 or offset_bytes < 0:
        raise ValueError("a wipe has a range: libcryptsetup takes length 0 for the whole device")
    with handle.progress_to(progress) as userdata:
        handle.run(
            handle.operation("wipe"),
            lib.crypt_wipe,
            ffi.NULL,
            pattern,
            offset_bytes,
            length_bytes,
            _BLOCK_BYTES,
            0,
            lib.luksctl_on_progress,
            userdata,
        )
