"""The node's UUID out of sysfs or the raw SMBIOS table."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import ProviderUnavailable
from luksctl.providers.smbios import SmbiosUuid, uuid_from_table

RAW = bytes(range(16))
BIG_ENDIAN = "00010203-0405-0607-0809-0a0b0c0d0e0f"
MIXED_ENDIAN = "03020100-0504-0706-0809-0a0b0c0d0e0f"
BIOS_INFORMATION = bytes((0, 24, 0, 0)) + bytes(20) + b"vendor\0version\0\0"
SYSTEM_INFORMATION = bytes((1, 27, 1, 0, 1, 2, 3, 4)) + RAW + bytes(3) + b"maker\0product\0\0"
END = bytes((127, 4, 2, 0, 0, 0))
TABLE = BIOS_INFORMATION + SYSTEM_INFORMATION + END


def entry_point(major: int, minor: int, *, wide: bool) -> bytes:
    """Return an entry point of the 64-bit (`wide`) or 32-bit form."""
    if wide:
        return b"_SM3_" + bytes((0, 24, major, minor, 0, 1, 0)) + bytes(12)
    return b"_SM_" + bytes((0, 31, major, minor)) + bytes(23)


def source(tmp_path: Path, *, shown: str | None, table: bytes | None = TABLE) -> SmbiosUuid:
    """Write a sysfs with product_uuid (unless `shown` is None) and the table (unless None)."""
    (tmp_path / "tables").mkdir()
    if shown is not None:
        (tmp_path / "product_uuid").write_text(shown)
    if table is not None:
        (tmp_path / "tables" / "DMI").write_bytes(table)
        (tmp_path / "tables" / "smbios_entry_point").write_bytes(entry_point(3, 2, wide=True))
    return SmbiosUuid(str(tmp_path / "product_uuid"), str(tmp_path / "tables"))


def test_the_kernels_text_comes_first_in_lower_case(tmp_path: Path) -> None:
    """Some kernels print capitals."""
    assert source(tmp_path, shown="4C4C4544-0042-3510-8051-B4C04F4E5731\n")() == "4c4c4544-0042-3510-8051-b4c04f4e5731"


@pytest.mark.parametrize("shown", [None, "", "\n"])
def test_the_table_serves_where_the_kernel_shows_nothing(tmp_path: Path, shown: str | None) -> None:
    """The kernel hides a UUID of all zeros or ones; the entropy check wants to see it."""
    assert source(tmp_path, shown=shown)() == MIXED_ENDIAN


@pytest.mark.parametrize("table", [None, b"", END, BIOS_INFORMATION + END])
def test_no_smbios_is_no_uuid(tmp_path: Path, table: bytes | None) -> None:
    """A machine without SMBIOS, or without a system information structure."""
    assert source(tmp_path, shown=None, table=table)() is None


def test_a_table_without_its_entry_point_is_no_uuid(tmp_path: Path) -> None:
    """Without the version the byte order is a guess."""
    found = source(tmp_path, shown=None)
    (tmp_path / "tables" / "smbios_entry_point").unlink()
    assert found() is None


def test_a_source_that_is_there_and_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    """As for anyone but root; the message names the file."""
    (tmp_path / "product_uuid").mkdir()
    with pytest.raises(ProviderUnavailable, match="product_uuid"):
        SmbiosUuid(str(tmp_path / "product_uuid"), str(tmp_path))()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((2, 4), BIG_ENDIAN),
        ((2, 5), BIG_ENDIAN),
        ((2, 6), MIXED_ENDIAN),
        ((2, 8), MIXED_ENDIAN),
        ((3, 0), MIXED_ENDIAN),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_the_byte_order_follows_the_version(version: tuple[int, int], expected: str, *, wide: bool) -> None:
    """Mixed endian since SMBIOS 2.6, in both forms of the entry point."""
    assert uuid_from_table(TABLE, entry_point(*version, wide=wide)) == expected
    assert {BIG_ENDIAN, MIXED_ENDIAN} == {str(UUID(bytes=RAW)), str(UUID(bytes_le=RAW))}


def test_an_entry_point_of_no_known_form_counts_as_old() -> None:
    """As Talos: plain big-endian."""
    assert uuid_from_table(TABLE, b"_DMI_" + bytes(10)) == BIG_ENDIAN
    assert uuid_from_table(TABLE, b"_SM_") == BIG_ENDIAN


@pytest.mark.parametrize(
    "table",
    [
        bytes((1, 8, 1, 0, 1, 2, 3, 4)) + b"\0\0" + END,
        bytes((1, 27, 1, 0, 1, 2, 3, 4)) + RAW[:9],
        bytes((0, 3, 0, 0)) + SYSTEM_INFORMATION,
        bytes((0, 24, 0, 0)) + bytes(20) + b"string without an end",
        END + SYSTEM_INFORMATION,
    ],
)
def test_a_structure_that_is_too_short_gives_no_uuid(table: bytes) -> None:
    """SMBIOS 2.0 had no UUID; a damaged table is left at the first thing that makes no sense."""
    assert uuid_from_table(table, entry_point(3, 0, wide=True)) is None


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_no_table_crashes_the_reader(table: bytes, entry: bytes) -> None:
    """Firmware is input like any other."""
    found = uuid_from_table(table, entry)
    assert found is None or len(found) == 36
