"""Our own tag: what is written is read, and what cannot be understood is never taken for nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import MetaError
from luksctl.meta.record import LAST_ERROR_CHARACTERS, StoredRecord, decode, encode
from luksctl.model.intent import (
    DecryptIntent,
    EraseMethod,
    FormatIntent,
    FormatPhase,
    InPlaceIntent,
    InPlacePhase,
    Intent,
    MovedSlot,
    ReencryptIntent,
    ReencryptKind,
    ResetIntent,
    Resilience,
    SlotRole,
)
from luksctl.model.meta import MachineCheck, NodeRecord
from luksctl.model.probe import Range

words = st.text(max_size=12)
hexes = st.binary(min_size=1, max_size=16).map(bytes.hex)
intents = st.builds(FormatIntent, words, words, words, st.integers(1, 9), st.sampled_from(FormatPhase), words)
resets = st.builds(
    ResetIntent, words, words, st.sampled_from(EraseMethod), *(st.integers(0, 1 << 50) for _ in range(3)), words, words
)
numbers = st.integers(0, 31)
reencryptions = st.builds(
    ReencryptIntent,
    *(words, words, words, words),
    st.lists(st.builds(MovedSlot, numbers, numbers, st.sampled_from(SlotRole)), max_size=3).map(tuple),
    numbers,
    st.sampled_from((512, 4096)),
    st.sampled_from(Resilience),
    *(st.integers(0, 1 << 40) for _ in range(3)),
    words,
)
records = st.builds(
    NodeRecord,
    st.lists(intents | resets | reencryptions, max_size=3).map(tuple),
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


RESET = {
    "kind": "reset",
    "volume": "STATE",
    "partition": "p",
    "method": "fast",
    "attempt": 1,
    "headBytes": 0,
    "positionBytes": 0,
    "was": "u",
    "lastError": "",
}

REENCRYPTION = {
    "kind": "reencrypt",
    "volume": "STATE",
    "partition": "p",
    "headerUUID": "u",
    "cipher": "aes-xts-plain64",
    "moved": [[31, 0, "config"]],
    "token": 30,
    "sectorSize": 512,
    "resilience": "checksum",
    "hotzoneBytes": 0,
    "maxRate": 0,
    "attempt": 0,
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


def test_a_reset_is_of_version_2() -> None:
    """A luksctl that knows no resets takes META for unreadable while there is one, and for what it was afterwards."""
    record = NodeRecord((ResetIntent("STATE", "p", EraseMethod.ZEROES, 1, 2, 3, "u", "why"),))
    text = encode(record, {})
    assert text == (
        b'{"version":2,"intents":[{"kind":"reset","volume":"STATE","partition":"p","method":"zeroes","attempt":1,'
        b'"headBytes":2,"positionBytes":3,"was":"u","lastError":"why"}],"partitions":{},"encrypted":[],'
        b'"machineCheck":null}'
    )
    assert decode(text).record == record
    assert encode(record.with_erased("STATE"), {}).startswith(b'{"version":1,')


def test_a_reencryption_is_of_version_3() -> None:
    """A luksctl that knows none takes META for unreadable while there is one, and never opens by half of the story."""
    moved = (MovedSlot(31, 0), MovedSlot(30, 9, SlotRole.RECOVERY), MovedSlot(29, 12, SlotRole.UNMANAGED))
    record = NodeRecord((ReencryptIntent("STATE", "p", "u", "c", moved, 28, 4096, Resilience.JOURNAL, 5, 6, 1, "why"),))
    text = encode(record, {})
    assert text == (
        b'{"version":3,"intents":[{"kind":"reencrypt","volume":"STATE","partition":"p","headerUUID":"u","cipher":"c",'
        b'"moved":[[31,0,"config"],[30,9,"recovery"],[29,12,"unmanaged"]],"token":28,"sectorSize":4096,'
        b'"resilience":"journal","hotzoneBytes":5,"maxRate":6,"attempt":1,"lastError":"why"}],"partitions":{},'
        b'"encrypted":[],"machineCheck":null}'
    )
    assert decode(text).record == record
    assert encode(record.without_intent("STATE"), {}).startswith(b'{"version":1,')


@pytest.mark.parametrize(
    "intent",
    [
        InPlaceIntent("EPHEMERAL", "p", "u", 2, InPlacePhase.PREPARING, None, "", "why"),
        InPlaceIntent("EPHEMERAL", "p", "u", 1, InPlacePhase.SHRINKING, Range(5, 6), "", "", "/a file", "00" * 32),
        InPlaceIntent("EPHEMERAL", "p", "u", 1, InPlacePhase.PLACING, Range(5, 6), "00" * 32),
        DecryptIntent("EPHEMERAL", "p", "u", "/a file", 3, "why", begun=True),
        DecryptIntent("EPHEMERAL", "p", "u", "/a file"),
        ReencryptIntent("EPHEMERAL", "p", "u", "c", kind=ReencryptKind.ENCRYPT),
        ReencryptIntent("EPHEMERAL", "p", "u", "", kind=ReencryptKind.DECRYPT, header="/a file"),
    ],
)
def test_work_in_place_is_read_back(intent: Intent) -> None:
    """What a boot goes on from is all there, in a record that an older luksctl takes for unreadable."""
    text = encode(NodeRecord((intent,)), {})
    assert text.startswith(b'{"version":3,')
    assert decode(text).record.intents == (intent,)


def test_a_long_cause_is_cut() -> None:
    """META is small, and an error's text is not ours to bound."""
    intent = FormatIntent("STATE", "p", "u", last_error="x" * 100_000)
    (found,) = decode(encode(NodeRecord((intent,)), {})).record.intents
    assert found.last_error == "x" * LAST_ERROR_CHARACTERS


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (document(version=4, intents="of another shape"), "version 4, and this luksctl knows 3"),
        (document(version=0), "no version"),
        (document(version="1"), "no version"),
        (document(version=True), "no version"),
        (b"{}", "no version"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"null", "not an object"),
        (document(intents={}), "not a list"),
        (document(intents=[{**INTENT, "kind": "burn"}]), "of a kind"),
        (document(intents=[{**RESET, "method": "burn"}]), "a method"),
        (document(intents=[{**RESET, "positionBytes": -1}]), "positionBytes"),
        (document(intents=[{**RESET, "headBytes": "1"}]), "headBytes"),
        (document(intents=[{**REENCRYPTION, "resilience": "none"}]), "a resilience"),
        (document(intents=[{**REENCRYPTION, "moved": None}]), "not a list"),
        (document(intents=[{**REENCRYPTION, "moved": [[31, 0]]}]), "a list of three"),
        (document(intents=[{**REENCRYPTION, "moved": [[31, 0, "else"]]}]), "a role"),
        (document(intents=[{**REENCRYPTION, "moved": [[-1, 0, "config"]]}]), "moved slot"),
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
