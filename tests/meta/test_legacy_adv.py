"""The syslinux ADV at the end of META: verified before it is believed, and edited without touching its neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.meta import legacy_adv
from tests.meta.torn import legacy_copy

RECORDS = st.lists(
    st.tuples(st.integers(1, 255), st.binary(max_size=40)), max_size=10, unique_by=lambda entry: entry[0]
)


@given(RECORDS)
def test_a_valid_copy_is_read(records: list[tuple[int, bytes]]) -> None:
    """Tags come back, ascending."""
    assert list(legacy_adv.decode(legacy_copy(records) * 2).items()) == sorted(records)


def test_a_tail_that_was_never_written_has_no_tags() -> None:
    """Zeros are no legacy ADV."""
    assert legacy_adv.decode(bytes(1024)) == {}
    assert not legacy_adv.verifies(bytes(1024))


@given(RECORDS, st.integers(0, 511), st.integers(1, 255))
def test_a_damaged_first_copy_gives_way_to_the_second(
    records: list[tuple[int, bytes]], place: int, change: int
) -> None:
    """One wrong byte in the first copy and the second serves; in both and none does."""
    copy = legacy_copy(records)
    damaged = bytearray(copy)
    damaged[place] ^= change
    assert list(legacy_adv.decode(bytes(damaged) + copy).items()) == sorted(records)
    assert legacy_adv.decode(bytes(damaged) * 2) == {}


def test_a_record_that_leaves_the_copy_spoils_it() -> None:
    """A forged size is not read past the end, although the checksum is right."""
    full = legacy_copy([(1, bytes(255)), (2, bytes(230))])
    forged = bytearray(full[8:508])
    forged[258] = 255
    assert legacy_adv.decode(_sealed(bytes(forged)) * 2) == {}


@given(RECORDS, st.data())
def test_deleting_a_tag_leaves_the_other_records(records: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """The copy without the tag is what a writer makes of the other records, with a checksum that holds."""
    records = [*records, (77, b"doomed")] if 77 not in dict(records) else records
    tag, _ = data.draw(st.sampled_from(records))
    expected = legacy_copy([entry for entry in records if entry[0] != tag])
    assert legacy_adv.without_tag(legacy_copy(records) * 2, tag) == expected


def test_every_record_of_the_tag_is_deleted() -> None:
    """A tag given twice does not come back with its other value."""
    tail = legacy_copy([(5, b"a"), (6, b"b"), (5, b"c")]) * 2
    assert legacy_adv.decode(tail)[5] == b"a"
    assert legacy_adv.without_tag(tail, 5) == legacy_copy([(6, b"b")])


@pytest.mark.parametrize("tail", [bytes(1024), legacy_copy([(6, b"b")]) * 2, b"\xff" * 1024])
def test_a_tag_that_is_not_there_cannot_be_deleted(tail: bytes) -> None:
    """Asking for it is a mistake of the caller."""
    with pytest.raises(ValueError, match="no valid legacy record of tag 5"):
        legacy_adv.without_tag(tail, 5)


def _sealed(area: bytes) -> bytes:
    words = sum(int.from_bytes(area[place : place + 4], "little") for place in range(0, len(area), 4))
    checksum = (0xA3041767 - words) % (1 << 32)
    foot = (0xDD28BF64).to_bytes(4, "little")
    return (0x5A2D2FA5).to_bytes(4, "little") + checksum.to_bytes(4, "little") + area + foot
