"""The header as a whole: its names, sizes, stored flags, and saving and restoring it."""

from __future__ import annotations

import json
import os
from enum import IntFlag

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.handle import LUKS2, Handle
from luksctl.cryptsetup.mappings import ActivateFlag
from luksctl.hints import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import Chars

_SECTOR_BYTES: Final = 512


class Requirement(IntFlag):
    """What a reader of the header must understand before it may open the volume."""

    OFFLINE_REENCRYPT = lib.CRYPT_REQUIREMENT_OFFLINE_REENCRYPT
    ONLINE_REENCRYPT = lib.CRYPT_REQUIREMENT_ONLINE_REENCRYPT
    UNKNOWN = lib.CRYPT_REQUIREMENT_UNKNOWN


@final
class Header:
    """Read and change a loaded header; made by `Device.header`.

    Every method that writes has written both header copies and synced them when it returns; cut in between, one copy
    is the older. All raise CryptsetupError.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    @property
    def uuid(self) -> str:
        """Return the UUID."""
        return _text(lib.crypt_get_uuid(self._handle.pointer))

    @property
    def label(self) -> str:
        """Return the label, empty if there is none; MissingFunction before libcryptsetup 2.5."""
        self._handle.require("crypt_get_label")
        return _text(lib.crypt_get_label(self._handle.pointer))

    @property
    def subsystem(self) -> str:
        """Return the subsystem, empty if there is none; MissingFunction before libcryptsetup 2.5."""
        self._handle.require("crypt_get_subsystem")
        return _text(lib.crypt_get_subsystem(self._handle.pointer))

    @property
    def cipher(self) -> str:
        """Return the cipher with its mode, as `FormatParameters.cipher`."""
        pointer = self._handle.pointer
        return f"{_text(lib.crypt_get_cipher(pointer))}-{_text(lib.crypt_get_cipher_mode(pointer))}"

    @property
    def volume_key_size_bytes(self) -> int:
        """Return the size of the volume key; 0 while no keyslot holds it."""
        return lib.crypt_get_volume_key_size(self._handle.pointer)

    @property
    def sector_size_bytes(self) -> int:
        """Return the size of an encryption sector."""
        return lib.crypt_get_sector_size(self._handle.pointer)

    @property
    def data_offset_bytes(self) -> int:
        """Return where the data begins on the device."""
        return lib.crypt_get_data_offset(self._handle.pointer) * _SECTOR_BYTES

    @property
    def detached(self) -> bool:
        """Tell whether header and data are on different devices."""
        handle = self._handle
        return bool(handle.run(handle.operation("ask where the header is"), lib.crypt_header_is_detached))

    def json(self) -> str:
        """Return the JSON area as libcryptsetup holds it (crypt_dump_json)."""
        return self._handle.metadata_json()

    def metadata(self) -> dict[str, Any]:
        """Return the parsed JSON area."""
        return json.loads(self.json())  # type: ignore[no-any-return]  # the library wrote it: an object

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of one header copy, and of the keyslots area."""
        handle = self._handle
        metadata, keyslots = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        handle.run(handle.operation("read the sizes"), lib.crypt_get_metadata_size, metadata, keyslots)
        return metadata[0], keyslots[0]

    def set_uuid(self, uuid: str) -> None:
        """Write another UUID."""
        handle = self._handle
        handle.change(handle.operation("set the UUID"), lib.crypt_set_uuid, uuid.encode())

    def set_label(self, label: str, subsystem: str) -> None:
        """Write label and subsystem (47 bytes each at most); empty takes them out."""
        handle = self._handle
        handle.change(
            handle.operation("set label and subsystem"), lib.crypt_set_label, label.encode(), subsystem.encode()
        )

    def persistent_flags(self) -> ActivateFlag:
        """Return the activation flags that the header stores."""
        return ActivateFlag(self._flags(lib.CRYPT_FLAGS_ACTIVATION))

    def set_persistent_flags(self, flags: ActivateFlag) -> None:
        """Store `flags` for every activation, in place of those stored before."""
        handle = self._handle
        operation = handle.operation("store the activation flags")
        handle.change(operation, lib.crypt_persistent_flags_set, lib.CRYPT_FLAGS_ACTIVATION, flags)

    def requirements(self) -> Requirement:
        """Return the requirements that the header states."""
        return Requirement(self._flags(lib.CRYPT_FLAGS_REQUIREMENTS))

    def backup(self, path: str) -> None:
        """Save header and keyslots to the new file `path`, mode 0400.

        EINVAL if the file exists. Cut: part of a file (crypt_header_backup).
        """
        handle = self._handle
        handle.run(handle.operation("back up the header"), lib.crypt_header_backup, LUKS2, os.fsencode(path))

    def restore(self, path: str) -> None:
        """Write header and keyslots from the backup `path` over those of the device, without asking.

        Cut: part of it is written; restore again (crypt_header_restore).
        """
        handle = self._handle
        handle.change(handle.operation("restore the header"), lib.crypt_header_restore, LUKS2, os.fsencode(path))

    def repair(self) -> None:
        """Make a damaged header loadable, where that can be done without loss (crypt_repair)."""
        handle = self._handle
        handle.change(handle.operation("repair the header"), lib.crypt_repair, LUKS2, ffi.NULL)

    def _flags(self, kind: int) -> int:
        handle = self._handle
        flags = ffi.new("uint32_t *")
        handle.run(handle.operation("read the stored flags"), lib.crypt_persistent_flags_get, kind, flags)
        return flags[0]


def _text(chars: Chars) -> str:
    return ffi.string(chars).decode(errors="replace") if chars else ""
