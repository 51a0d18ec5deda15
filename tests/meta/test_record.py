"""Our own tag: what is written is read, and what cannot be understood is never taken for nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import MetaError
from luksctl.meta.record import LAST_ERROR_CHARACTERS, StoredRecord, decode, encode
from luksctl.model.intent import FormatIntent, FormatPhase
from luksctl.model.meta import MachineCheck, NodeRecord

words = st.text(max_size=12)
hexes = st.binary(min_size=1, max_size=16).map(bytes.hex)
intents = st.builds(FormatIntent, words, words, words, st.integers(1, 9), st.sampled_from(FormatPhase), words)
records = st.builds(
    NodeRecord,
    st.lists(intents, max_size=3).map(tuple),
    st.dictionaries(words, words, max_size=3).map(lambda found: tuple(found.items())),
    st.lists(words, max_size=3).map(tuple),
    st.none() | st.builds(MachineCheck, hexes, hexes),
)
INTENT = {
    "kind": "format",
    "volume": "STATE",
    "partition": "p",
    "headerUUID": "u",
    "attempt": 1,
    "phase": "header",
    "lastError": "",
}


def document(**fields: object) -> bytes:
    return json.dumps({"version": 1, **fields}).encode()


@given(records, st.dictionaries(words.map(lambda text: f"x-{text}"), st.integers(), max_size=3))
def test_what_is_written_is_read(record: NodeRecord, unknown: dict[str, object]) -> None:
    """Records come back equal, together with the fields that are not ours."""
    assert decode(encode(record, unknown)) == StoredRecord(record, unknown)


def test_no_tag_is_an_empty_record() -> None:
    """A node that never wrote one."""
    assert decode(None) == StoredRecord(NodeRecord(), {})


def test_the_layout_is_the_documented_one() -> None:
    """docs/meta.md shows these bytes; a change of them is a new version."""
    record = NodeRecord(
        (FormatIntent("STATE", "p", "u", 2, FormatPhase.FILESYSTEM, "why"),),
        (("STATE", "p"),),
        ("STATE",),
        MachineCheck("aa", "bb"),
    )
    assert encode(record, {}) == (
        b'{"version":1,"intents":[{"kind":"format","volume":"STATE","partition":"p","headerUUID":"u","attempt":2,'
        b'"phase":"filesystem","lastError":"why"}],"partitions":{"STATE":"p"},"encrypted":["STATE"],'
        b'"machineCheck":{"salt":"aa","mac":"bb"}}'
    )


def test_a_long_cause_is_cut() -> None:
    """META is small, and an error's text is not ours to bound."""
    intent = FormatIntent("STATE", "p", "u", last_error="x" * 100_000)
    (found,) = decode(encode(NodeRecord((intent,)), {})).record.intents
    assert found.last_error == "x" * LAST_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (document(version=2, intents="of another shape"), "version 2, and this luksctl knows 1"),
        (document(version=0), "no version"),
        (document(version="1"), "no version"),
        (document(version=True), "no version"),
        (b"{}", "no version"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"null", "not an object"),
        (document(intents={}), "not a list"),
        (document(intents=[{**INTENT, "kind": "reset"}]), "of a kind"),
        (document(intents=[{**INTENT, "phase": "later"}]), "in a phase"),
        (document(intents=[{**INTENT, "attempt": -1}]), "attempt"),
        (document(intents=[{**INTENT, "attempt": True}]), "attempt"),
        (document(intents=[{**INTENT, "volume": None}]), "volume is not text"),
        (document(partitions=[]), "not an object"),
        (document(partitions={"STATE": 1}), "not text"),
        (document(encrypted=[1]), "not text"),
        (document(machineCheck={"salt": "aa"}), "mac is not text"),
        (document(machineCheck={"salt": "aa", "mac": "zz"}), "not hexadecimal"),
    ],
)
def test_what_is_not_understood_is_an_error(value: bytes, why: str) -> None:
    """An intent that cannot be read is not an intent that is not there."""
    with pytest.raises(MetaError, match=why):
        decode(value)
