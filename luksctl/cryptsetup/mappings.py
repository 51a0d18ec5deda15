"""Mappings: /dev/mapper names over a device, their options and their state."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.failure import Operation
from luksctl.cryptsetup.handle import ANY_SLOT, Handle, make_handle, run_without_handle
from luksctl.cryptsetup.kdf import DEFAULT_BOUNDS
from luksctl.cryptsetup.passing import chars_of
from luksctl.errors import CryptsetupError
from luksctl.hints import Final, final
from luksctl.model.ports import Activation
from luksctl.secret import Secret
from luksctl.value import frozen

_SECTOR_BYTES: Final = 512


class ActivateFlag(IntFlag):
    """Options of an activation, and those a header stores for every one."""

    READONLY = lib.CRYPT_ACTIVATE_READONLY
    SHARED = lib.CRYPT_ACTIVATE_SHARED
    ALLOW_DISCARDS = lib.CRYPT_ACTIVATE_ALLOW_DISCARDS
    SAME_CPU_CRYPT = lib.CRYPT_ACTIVATE_SAME_CPU_CRYPT
    SUBMIT_FROM_CRYPT_CPUS = lib.CRYPT_ACTIVATE_SUBMIT_FROM_CRYPT_CPUS
    KEYRING_KEY = lib.CRYPT_ACTIVATE_KEYRING_KEY
    IGNORE_PERSISTENT = lib.CRYPT_ACTIVATE_IGNORE_PERSISTENT
    REFRESH = lib.CRYPT_ACTIVATE_REFRESH
    SERIALIZE_MEMORY_HARD_PBKDF = lib.CRYPT_ACTIVATE_SERIALIZE_MEMORY_HARD_PBKDF
    NO_READ_WORKQUEUE = lib.CRYPT_ACTIVATE_NO_READ_WORKQUEUE
    NO_WRITE_WORKQUEUE = lib.CRYPT_ACTIVATE_NO_WRITE_WORKQUEUE

    @classmethod
    def named(cls, names: Iterable[str]) -> ActivateFlag:
        """Return the flags that `names` ("no_read_workqueue", …) mean; KeyError for an unknown one."""
        flags = cls(0)
        for name in names:
            flags |= cls[name.upper()]
        return flags


def activate_flags(how: Activation) -> ActivateFlag:
    """Return the flags of an opening."""
    flags = ActivateFlag.named(how.options)
    if how.allow_discards:
        flags |= ActivateFlag.ALLOW_DISCARDS
    if how.read_only:
        flags |= ActivateFlag.READONLY
    return flags


class DeactivateFlag(IntFlag):
    """Options of a deactivation."""

    DEFERRED = lib.CRYPT_DEACTIVATE_DEFERRED
    FORCE = lib.CRYPT_DEACTIVATE_FORCE
    DEFERRED_CANCEL = lib.CRYPT_DEACTIVATE_DEFERRED_CANCEL


NO_FLAGS: Final = ActivateFlag(0)
AT_ONCE: Final = DeactivateFlag(0)


class MappingStatus(IntEnum):
    """Whether a name is active (crypt_status_info)."""

    INVALID = lib.CRYPT_INVALID
    INACTIVE = lib.CRYPT_INACTIVE
    ACTIVE = lib.CRYPT_ACTIVE
    BUSY = lib.CRYPT_BUSY


@frozen
class ActiveMapping:
    """An active mapping: the device below it, where it begins there, how long it is, and its options."""

    name: str
    backing: str
    offset_bytes: int
    size_bytes: int
    flags: ActivateFlag


@final
class Mappings:
    """Open, close and change mappings of one device; made by `Device.mappings`. All raise CryptsetupError."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def _check_not_reencrypting(self) -> None:
        # Opening would move a hot zone along in the data while its record went to memory only.
        if self._handle.in_memory and "requirements" in self._handle.metadata()["config"]:
            raise CryptsetupError(
                "a volume with requirements (re-encryption) is not opened from a copy of its header",
                errno=errno.EINVAL,
                volume=self._handle.path,
                operation="open",
            )

    def activate_by_passphrase(
        self, name: str, key: Secret, *, slot: int | None = None, flags: ActivateFlag = NO_FLAGS
    ) -> int:
        """Open the device as /dev/mapper/`name` and return the keyslot that `key` opened.

        Without `slot` all are tried in turn. Raises SlotPassphraseRejected, or KdfOutOfBounds or
        KdfOutOfMemory before any is tried.
        """
        handle = self._handle
        self._check_not_reencrypting()
        number = ANY_SLOT if slot is None else slot
        with handle.deriving(slot), chars_of(key) as chars:
            return handle.run(
                handle.unlocking(f"open as {name}", slot),
                lib.crypt_activate_by_passphrase,
                name.encode(),
                number,
                chars,
                len(key),
                flags,
            )

    def activate_by_volume_key(self, name: str, volume_key: Secret, *, flags: ActivateFlag = NO_FLAGS) -> None:
        """Open the device as /dev/mapper/`name` with its volume key; only the digest is computed.

        Raises SlotPassphraseRejected if `volume_key` is not this volume's.
        """
        handle = self._handle
        self._check_not_reencrypting()
        handle.check_digests()
        with chars_of(volume_key) as chars:
            handle.run(
                handle.unlocking(f"open as {name}"),
                lib.crypt_activate_by_volume_key,
                name.encode(),
                chars,
                len(volume_key),
                flags,
            )

    def deactivate(self, name: str, *, flags: DeactivateFlag = AT_ONCE) -> None:
        """Close /dev/mapper/`name`."""
        handle = self._handle
        handle.run(handle.operation(f"close {name}"), lib.crypt_deactivate_by_name, name.encode(), flags)

    def status(self, name: str) -> MappingStatus:
        """Tell whether /dev/mapper/`name` is active."""
        return MappingStatus(lib.crypt_status(self._handle.pointer, name.encode()))

    def resize(self, name: str, size_bytes: int | None = None, *, volume_key: Secret | None = None) -> None:
        """Make /dev/mapper/`name` `size_bytes` long, a multiple of 512 (None: as long as the device allows).

        A mapping whose key is in the kernel's keyring asks for the `volume_key` again.
        """
        handle = self._handle
        if volume_key is not None:
            handle.check_digests()
            with chars_of(volume_key) as chars:
                handle.run(
                    handle.unlocking(f"resize {name}"),
                    lib.crypt_activate_by_volume_key,
                    ffi.NULL,
                    chars,
                    len(volume_key),
                    lib.CRYPT_ACTIVATE_KEYRING_KEY,
                )
        sectors = (size_bytes or 0) // _SECTOR_BYTES
        handle.run(handle.operation(f"resize {name}"), lib.crypt_resize, name.encode(), sectors)

    def suspend(self, name: str) -> None:
        """Stop all I/O on /dev/mapper/`name` and wipe its volume key from the kernel."""
        handle = self._handle
        handle.run(handle.operation(f"suspend {name}"), lib.crypt_suspend, name.encode())

    def resume_by_passphrase(self, name: str, key: Secret, *, slot: int | None = None) -> int:
        """Bring the suspended /dev/mapper/`name` back and return the keyslot that `key` opened."""
        handle = self._handle
        number = ANY_SLOT if slot is None else slot
        with handle.deriving(slot), chars_of(key) as chars:
            return handle.run(
                handle.unlocking(f"resume {name}", slot),
                lib.crypt_resume_by_passphrase,
                name.encode(),
                number,
                chars,
                len(key),
            )

    def resume_by_volume_key(self, name: str, volume_key: Secret) -> None:
        """Bring the suspended /dev/mapper/`name` back with its volume key."""
        handle = self._handle
        handle.check_digests()
        with chars_of(volume_key) as chars:
            handle.run(
                handle.unlocking(f"resume {name}"),
                lib.crypt_resume_by_volume_key,
                name.encode(),
                chars,
                len(volume_key),
            )


def mapping_status(name: str) -> MappingStatus:
    """Tell whether /dev/mapper/`name` is active, without a device at hand."""
    operation = Operation(f"look at {name}", name)
    return MappingStatus(run_without_handle(operation, lambda: lib.crypt_status(ffi.NULL, name.encode())))


def deactivate(name: str, *, flags: DeactivateFlag = AT_ONCE) -> None:
    """Close /dev/mapper/`name`, without a device at hand; CryptsetupError if it is not active or in use.

    Loads the header as `Device.open` does, so it repairs a damaged copy (crypt_deactivate_by_name).
    """
    operation = Operation(f"close {name}", name)
    run_without_handle(operation, lambda: lib.crypt_deactivate_by_name(ffi.NULL, name.encode(), flags))


def active_mapping(name: str) -> ActiveMapping:
    """Return what the active /dev/mapper/`name` is and stands on; CryptsetupError if it is not active.

    Loads the header as `Device.open` does, so it repairs a damaged copy; sysfs tells the backing device without that.
    """
    operation = Operation(f"look at {name}", name)
    handle = make_handle(lambda out: lib.crypt_init_by_name(out, name.encode()), operation, DEFAULT_BOUNDS)
    try:
        found = ffi.new("struct crypt_active_device *")
        handle.run(operation, lib.crypt_get_active_device, name.encode(), found)
        backing = lib.crypt_get_device_name(handle.pointer)
        return ActiveMapping(
            name=name,
            backing=os.fsdecode(ffi.string(backing)) if backing else "",
            offset_bytes=found.offset * _SECTOR_BYTES,
            size_bytes=found.size * _SECTOR_BYTES,
            flags=ActivateFlag(found.flags),
        )
    finally:
        handle.close()
