"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.units import GIB, KIB, MIB, format_size, parse_duration_s, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("7 B", 7),
        ("1KiB", KIB),
        ("100 MiB", 100 * MIB),
        (" 2 GiB ", 2 * GIB),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_read_with_binary_units(text: str, size_bytes: int) -> None:
    """A bare number is bytes; the units are the binary ones."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MiB", "1 MB", "1.5 GiB", "-1", "1 mib", "0x10", "1 MiB 2", "1e3", "٣\n4"])
def test_what_is_not_a_size_is_refused_by_name(text: str) -> None:
    """Decimal units, fractions and signs are mistakes, not guesses."""
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (KIB, "1 KiB"), (1536, "1.5 KiB"), (100 * MIB, "100 MiB"), (3 << 40, "3 TiB")],
)
def test_sizes_are_shown_in_the_largest_unit(size_bytes: int, text: str) -> None:
    """Whole numbers lose their decimals."""
    assert format_size(size_bytes) == text


@given(st.integers(0, 999), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_sizes_survive_a_round_trip(number: int, unit: str) -> None:
    """What is shown is read back as the same size."""
    size_bytes = parse_size(f"{number} {unit}")
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1m", 60.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        (" 0 ", 0.0),
        ("1m30s", 90.0),
        ("1h0m0.5s", 3600.5),
    ],
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    """A bare number is seconds."""
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1d", "1m30", "30 1m", "inf", "nan", "1_0"])
def test_what_is_not_a_duration_is_refused_by_name(text: str) -> None:
    """Nothing that could mean "for ever" gets through."""
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_s(text)
