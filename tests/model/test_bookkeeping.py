"""What is noted in a header: read as it was written, and anything else refused before it can do harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.model.bookkeeping import Bookkeeping, Purpose, SlotNote, Underway, decode, encode, mac_input
from luksctl.model.sealing import Due

SLOTS = st.integers(0, 31)
HEX = st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex)
NOTES = st.builds(SlotNote, SLOTS, st.sampled_from(Purpose), st.integers(0, 253_402_300_799), HEX, HEX)
BOOKS = st.builds(
    Bookkeeping,
    st.integers(0, 1 << 40),
    st.lists(NOTES, unique_by=lambda note: note.slot).map(tuple),
    st.lists(st.builds(Underway, SLOTS, SLOTS), unique_by=lambda entry: entry.slot).map(tuple),
    st.dictionaries(SLOTS, HEX).map(lambda due: tuple(Due(slot, policy) for slot, policy in sorted(due.items()))),
)
PLAIN = Bookkeeping(7, (SlotNote(0, Purpose.CONFIG, 1_795_388_861, "ab" * 16),), (Underway(31, 0),))


@given(BOOKS)
def test_what_is_written_is_read(books: Bookkeeping) -> None:
    """Notes and announcements come back; their order is that of their slots."""
    found, mac = decode(encode(books, "cd" * 16))
    assert mac == "cd" * 16
    assert (found.counter, found.due) == (books.counter, books.due)
    assert set(found.notes) == set(books.notes)
    assert set(found.underway) == set(books.underway)
    assert mac_input(found) == mac_input(books)


def test_bookkeeping_without_due_slots_is_as_it_ever_was() -> None:
    """The MAC of a header that was written before there were any still holds."""
    fields = {
        "type": "luksctl",
        "keyslots": [],
        "version": 1,
        "counter": 7,
        "slots": {"0": {"for": "config", "at": 1_795_388_861, "fp": "ab" * 16}},
        "underway": {"31": 0},
    }
    assert mac_input(PLAIN) == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"counter": -1},
        {"counter": True},
        {"slots": []},
        {"slots": {"32": {"for": "config", "at": 0}}},
        {"slots": {"x": {"for": "config", "at": 0}}},
        {"slots": {"0": {"for": "nobody", "at": 0}}},
        {"slots": {"0": {"for": "config", "at": 253_402_300_800}}},
        {"slots": {"0": {"for": "config", "at": 1 << 62}}},
        {"slots": {"0": {"for": "config", "at": 0, "fp": 1}}},
        {"underway": {"31": 32}},
        {"due": [0]},
        {"due": {"32": None}},
        {"due": {"0": 1}},
        {"mac": None},
    ],
)
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    """Whoever can write to the disk can write it, and a date that nobody can show would end `status`."""
    fields = json.loads(encode(PLAIN, "00"))
    with pytest.raises(ValueError, match=r".+"):
        decode(json.dumps({**fields, **change}))


def test_a_new_key_is_due_until_a_change_made_it() -> None:
    """Noting a fingerprint alone does not take it away; the record of a change does, and so does leaving."""
    note, first, other = PLAIN.notes[0], Due(0, "aa"), Due(3)
    due = Bookkeeping(1, (note,)).with_due((other, Due(0, "bb"))).with_due((first,))
    assert due.due == (first, other)
    assert due.due_in(0) == first
    assert due.due_in(1) is None
    assert due.with_note(note).due == (first, other)
    assert due.with_underway(31, 0).with_note(note).due == (other,)
    assert due.without(3).due == (first,)
