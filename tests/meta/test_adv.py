"""One copy of the Talos ADV: the published checksums, the bounds, and what damage looks like."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import MetaError
from luksctl.meta import adv
from tests.meta.torn import COPY, sealed_copy, talos_copy

TAGS = st.dictionaries(st.integers(1, 255), st.binary(max_size=600), max_size=12)


@pytest.mark.parametrize(
    ("records", "digest"),
    [
        ({}, "e7a327df2cfb2c3010ac1a387e9573d46ea52cac7f25db80ad8fbb41aceabf70"),
        ({9: b"null"}, "8ee5e3cef8b0bb4ab716bd448cfaacd21f60c9fbd2b1f1313f499e26225450d2"),
        ({12: b"abc", 9: b"{}"}, "695d15704d37c8e9b443057e2f5f552a1350230782b4be8b54c622c8461760ff"),
    ],
)
def test_checksums_are_those_of_the_format(records: dict[int, bytes], digest: str) -> None:
    """Known records give the known SHA-256 at its place, whatever order they come in."""
    copy = adv.encode(records)
    assert copy[0x3FFDC:0x3FFFC].hex() == digest
    assert len(copy) == COPY


@given(TAGS)
def test_what_is_written_is_read(records: dict[int, bytes]) -> None:
    """Decode gives back what encode took, ascending, and Talos' own layout gives the same bytes."""
    copy = adv.encode(records)
    assert list(adv.decode(copy).items()) == sorted(records.items())
    assert bytes(copy) == talos_copy(sorted(records.items()))


@given(st.permutations([(1, b"one"), (9, b"null"), (200, b""), (255, b"\0\xff")]))
def test_the_order_of_records_means_nothing(records: list[tuple[int, bytes]]) -> None:
    """Talos writes its tags in any order."""
    assert list(adv.decode(talos_copy(records))) == [1, 9, 200, 255]


def test_of_a_tag_given_twice_the_last_counts() -> None:
    """As in Talos."""
    assert adv.decode(talos_copy([(9, b"old"), (9, b"new")])) == {9: b"new"}


def test_tag_zero_ends_the_list() -> None:
    """What follows a record of tag 0 is not read."""
    assert adv.decode(talos_copy([(9, b"x"), (0, b""), (10, b"y")])) == {9: b"x"}


@given(TAGS, st.integers(0, COPY - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(records: dict[int, bytes], place: int, change: int) -> None:
    """A copy with one wrong byte anywhere is refused as a whole."""
    copy = adv.encode(records)
    copy[place] ^= change
    with pytest.raises(MetaError):
        adv.decode(copy)


@pytest.mark.parametrize("size", [1, 262104, 0xFFFFFFF8, 0xFFFFFFFF])
def test_a_record_that_leaves_the_copy_is_refused(size: int) -> None:
    """A forged size, also one that wraps 32 bits, is an error although the checksum is right."""
    filler = struct.pack(">II", 1, adv.CAPACITY_BYTES - 16) + bytes(adv.CAPACITY_BYTES - 16)
    with pytest.raises(MetaError, match="leaves the copy"):
        adv.decode(sealed_copy(filler + struct.pack(">II", 9, size)))


@pytest.mark.parametrize("left", range(8))
def test_fewer_than_eight_bytes_left_end_the_list(left: int) -> None:
    """What remains below a record's head is no record, whatever stands there."""
    filler = struct.pack(">II", 1, adv.CAPACITY_BYTES - 8 - left) + bytes(adv.CAPACITY_BYTES - 8 - left)
    assert list(adv.decode(sealed_copy(filler + b"\xff" * left))) == [1]


@pytest.mark.parametrize("tag", [256, 265, 0xFFFFFFFF])
def test_a_tag_above_255_is_refused(tag: int) -> None:
    """Talos would take 265 for 9; no writer makes it, so it is damage."""
    with pytest.raises(MetaError, match="above 255"):
        adv.decode(talos_copy([(tag, b"x")]))


@pytest.mark.parametrize("tag", [-1, 0, 256])
def test_no_such_tag_can_be_written(tag: int) -> None:
    """Tags are 1 to 255."""
    with pytest.raises(MetaError, match="outside 1 to 255"):
        adv.encode({tag: b""})


def test_a_full_copy_fits_and_one_byte_more_does_not() -> None:
    """The capacity counts each record's own eight bytes."""
    full = {1: bytes(1000), 2: bytes(adv.CAPACITY_BYTES - 1000 - 16)}
    assert adv.decode(adv.encode(full)) == full
    with pytest.raises(MetaError, match="262105 bytes, and 262104 fit"):
        adv.encode({**full, 2: full[2] + b"x"})


@pytest.mark.parametrize("length", [0, 4, COPY - 1, COPY + 1])
def test_a_copy_of_another_length_is_refused(length: int) -> None:
    """A short read is never a copy."""
    with pytest.raises(MetaError, match="bytes long"):
        adv.decode(bytes(length))
