"""The node's UUID from SMBIOS (DSP0134): what the kernel made of it, or the raw table where it made nothing."""

from __future__ import annotations

from itertools import pairwise

from luksctl.errors import ProviderUnavailable
from luksctl.hints import Final
from luksctl.value import frozen

_SYSTEM_INFORMATION: Final = 1
_END_OF_TABLE: Final = 127
_STRUCTURE_HEAD_BYTES: Final = 4
_UUID_OFFSET: Final = 8
_UUID_END: Final = 24
# anchor of the entry point → offset of the major version, the minor one follows
_VERSION_OFFSETS: Final = ((b"_SM3_", 7), (b"_SM_", 6))
_FIELD_ENDS: Final = (0, 4, 6, 8, 10, 16)
_SWAPPED_FIELDS: Final = 3
# Since this version the first three fields are little-endian.
_MIXED_ENDIAN_SINCE: Final = (2, 6)


@frozen
class SmbiosUuid:
    """Read the UUID of this machine when called; paths are arguments for tests and for other roots."""

    product_uuid_path: str = "/sys/class/dmi/id/product_uuid"
    tables_path: str = "/sys/firmware/dmi/tables"

    def __call__(self) -> str | None:
        """Return the UUID in lower case, or None where SMBIOS has none.

        The kernel shows no product_uuid for all zeros and all ones; the table still does, and the caller's entropy
        check refuses it with a reason. ProviderUnavailable when a file is there and cannot be read (root can).
        """
        text = _read(self.product_uuid_path)
        shown = "" if text is None else text.decode("ascii", "replace").strip().lower()
        if shown:
            return shown
        table = _read(f"{self.tables_path}/DMI")
        entry_point = _read(f"{self.tables_path}/smbios_entry_point")
        if table is None or entry_point is None:
            return None
        return uuid_from_table(table, entry_point)


def uuid_from_table(table: bytes, entry_point: bytes) -> str | None:
    """Return the UUID of the first System Information structure in `table`, None where there is none."""
    offset = 0
    while offset + _STRUCTURE_HEAD_BYTES <= len(table):
        kind, length = table[offset], table[offset + 1]
        if length < _STRUCTURE_HEAD_BYTES or kind == _END_OF_TABLE:
            return None
        structure = table[offset : offset + length]
        if kind == _SYSTEM_INFORMATION:
            raw = structure[_UUID_OFFSET:_UUID_END]
            return _format(raw, entry_point) if len(raw) == _UUID_END - _UUID_OFFSET else None
        # Strings follow the formatted part; two zero bytes end them.
        strings_end = table.find(b"\0\0", offset + length)
        if strings_end < 0:
            return None
        offset = strings_end + 2
    return None


def _format(raw: bytes, entry_point: bytes) -> str:
    mixed_endian = _version(entry_point) >= _MIXED_ENDIAN_SINCE
    fields = [raw[start:end] for start, end in pairwise(_FIELD_ENDS)]
    ordered = [field[::-1] if mixed_endian and index < _SWAPPED_FIELDS else field for index, field in enumerate(fields)]
    return "-".join(field.hex() for field in ordered)


def _version(entry_point: bytes) -> tuple[int, int]:
    for anchor, offset in _VERSION_OFFSETS:
        if entry_point.startswith(anchor) and len(entry_point) > offset + 1:
            return entry_point[offset], entry_point[offset + 1]
    return 0, 0


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as source:
            return source.readall()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProviderUnavailable(
            f"cannot read the node UUID from {path}: {error.strerror}", hint="only root may read it"
        ) from error
