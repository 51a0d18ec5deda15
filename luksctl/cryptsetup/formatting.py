"""Writing a new LUKS2 header."""

from __future__ import annotations

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.handle import LUKS2, Handle, optional_text
from luksctl.cryptsetup.kdf import CHEAP_DIGEST, Pbkdf2Cost
from luksctl.cryptsetup.passing import optional_chars_of
from luksctl.hints import Final
from luksctl.model.config import DEFAULT_CIPHER
from luksctl.secret import Secret
from luksctl.value import frozen

_SECTOR_BYTES: Final = 512


@frozen
class FormatParameters:
    """What a new header shall be; None leaves the choice to libcryptsetup.

    `uuid` None makes a random one. `metadata_size_bytes` is the size of one header copy (16 KiB to 4 MiB),
    `keyslots_size_bytes` that of the keyslots area, `data_offset_bytes` where the data begins (0 with a detached
    header). `digest` costs every unlock; it cannot be changed later. `integrity` is a name of dm-crypt's, such as
    "hmac(sha256)", whose key is part of the volume key (32 bytes more); it needs a kernel with dm-integrity.
    """

    cipher: str = DEFAULT_CIPHER
    volume_key_size_bytes: int = 64
    sector_size_bytes: int | None = None
    uuid: str | None = None
    label: str = ""
    subsystem: str = ""
    metadata_size_bytes: int | None = None
    keyslots_size_bytes: int | None = None
    data_offset_bytes: int | None = None
    digest: Pbkdf2Cost = CHEAP_DIGEST
    integrity: str | None = None


def format_device(handle: Handle, parameters: FormatParameters, volume_key: Secret | None) -> None:
    """Write a new header without keyslots, and sync it; `volume_key` None makes a random one (crypt_format).

    Everything in the header area is lost. Cut: zeros, random bytes without a header, or one or two copies.
    """
    _set_layout(handle, parameters)
    handle.set_kdf(parameters.digest)
    name, _, mode = parameters.cipher.partition("-")
    label, subsystem = (ffi.new("char[]", text.encode()) for text in (parameters.label, parameters.subsystem))
    integrity = ffi.NULL if parameters.integrity is None else ffi.new("char[]", parameters.integrity.encode())
    luks2 = ffi.new(
        "struct crypt_params_luks2 *",
        {
            "sector_size": parameters.sector_size_bytes or 0,
            "label": label,
            "subsystem": subsystem,
            "integrity": integrity,
        },
    )
    operation = handle.operation("format")
    arguments = (LUKS2, name.encode(), mode.encode(), optional_text(parameters.uuid))
    size_bytes = parameters.volume_key_size_bytes if volume_key is None else len(volume_key)
    with optional_chars_of(volume_key) as chars:
        handle.change(operation, lib.crypt_format, *arguments, chars, size_bytes, luks2)


def _set_layout(handle: Handle, parameters: FormatParameters) -> None:
    handle.run(
        handle.operation("set the sizes of the header"),
        lib.crypt_set_metadata_size,
        parameters.metadata_size_bytes or 0,
        parameters.keyslots_size_bytes or 0,
    )
    if parameters.data_offset_bytes is not None:
        handle.run(
            handle.operation("set where the data begins"),
            lib.crypt_set_data_offset,
            parameters.data_offset_bytes // _SECTOR_BYTES,
        )
