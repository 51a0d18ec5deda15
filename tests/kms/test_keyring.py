"""The versions of the master key: bytes by hand, and nothing that is merely like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import Refused, SealError
from luksctl.kms.keyring import MOST_IMPORTED, MOST_VERSIONS, Keyring, is_keyring
from luksctl.model.kms import KeyVersion
from luksctl.secret import Secret

FIRST, SECOND = bytes(range(32)), bytes(range(32, 64))
TEXT = (
    b"luksctl-kms-key1\x00\x02"
    b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01\x00"
    + FIRST
    + b"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x02\x00"
    + SECOND
)


def _bytes(keyring: Keyring) -> bytes:
    with keyring.text() as text, text.view() as view:
        return bytes(view)


def test_bytes_by_hand_are_read() -> None:
    """Versions, times and keys, oldest first; the newest seals."""
    keyring = Keyring(Secret.take(TEXT))
    assert keyring.versions == (KeyVersion(1, 256), KeyVersion(2, 512))
    assert keyring.newest == KeyVersion(2, 512)
    with keyring.master(1) as first, keyring.master(2) as second:
        assert (bytes(first), bytes(second)) == (FIRST, SECOND)
    assert [keyring.has(version) for version in (0, 1, 2, 3)] == [False, True, True, False]
    assert _bytes(keyring) == TEXT


def test_rotating_keeps_every_key() -> None:
    """The old text is the beginning of the new one, but for the count."""
    keyring = Keyring(Secret.take(TEXT))
    rotated = keyring.rotated(768)
    assert _bytes(rotated)[18 : len(TEXT)] == TEXT[18:]
    assert rotated.newest == KeyVersion(3, 768)
    assert _bytes(keyring) == TEXT


def test_there_is_an_end_to_rotating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the file grows past what is read, and the key past what a pipe takes."""
    assert MOST_VERSIONS * 44 < 65536
    monkeypatch.setattr("luksctl.kms.keyring.MOST_VERSIONS", 3)
    keyring = Keyring.new(0).rotated(0).rotated(0)
    with pytest.raises(SealError, match="cannot have more"):
        keyring.rotated(0)


@given(st.one_of(st.binary(), st.binary().map(lambda tail: TEXT[:18] + tail), st.integers(1, len(TEXT) - 1)))
def test_what_is_no_keyring_is_refused(content: bytes | int) -> None:
    """Random bytes, a head with random bytes behind it, and every part of a real one."""
    text = TEXT[:content] if isinstance(content, int) else content
    if not text or text == TEXT:
        return
    with pytest.raises(SealError):
        Keyring(Secret.take(text))


@pytest.mark.parametrize("place", [21, 65])
def test_versions_follow_each_other(place: int) -> None:
    """A keyring with a version missing is a part of one."""
    text = bytearray(TEXT)
    text[place] = 7
    with pytest.raises(SealError):
        Keyring(Secret.take(bytes(text)))


def test_a_closed_keyring_is_gone() -> None:
    """Its memory is wiped with it."""
    with Keyring.new(0) as keyring:
        assert is_keyring(_bytes(keyring))
    with pytest.raises(ValueError, match="closed"):
        keyring.master(1)


IMPORTED = (
    b"luksctl-kms-key2"
    + TEXT[16:]
    + b"\x00\x02"
    + b"\x00\x00\x00\x00\x00\x00\x03\x00\x00\x10"
    + FIRST[:16]
    + bytes(16)
    + b"\x00\x00\x00\x00\x00\x00\x04\x00\x00\x20"
    + SECOND
)


def test_imported_keys_stand_behind_the_versions() -> None:
    """Bytes by hand: their times, their lengths; rotating keeps them, and a text without any is as ever."""
    keyring = Keyring(Secret.take(TEXT)).with_imported(Secret.take(FIRST[:16]), 768)
    keyring = keyring.with_imported(Secret.take(SECOND), 1024)
    assert _bytes(keyring) == IMPORTED
    assert keyring.imported == (768, 1024)
    read = Keyring(Secret.take(IMPORTED)).rotated(2048)
    assert [bytes(key) for key in read.imported_keys()] == [FIRST[:16], SECOND]
    assert read.versions == (KeyVersion(1, 256), KeyVersion(2, 512), KeyVersion(3, 2048))
    assert is_keyring(IMPORTED)


def test_what_cannot_be_imported_is_told() -> None:
    """No key of AES, one that is there, and one too many."""
    keyring = Keyring(Secret.take(IMPORTED))
    with pytest.raises(SealError, match="of 33 bytes"):
        keyring.with_imported(Secret.random(33), 0)
    for known in (FIRST[:16], SECOND):
        with pytest.raises(Refused, match="imported before"):
            keyring.with_imported(Secret.take(known), 0)
    for _ in range(MOST_IMPORTED - 2):
        keyring = keyring.with_imported(Secret.random(24), 0)
    with pytest.raises(Refused, match="cannot be more"):
        keyring.with_imported(Secret.random(24), 0)


@given(st.integers(0, len(IMPORTED) - 1), st.integers(1, 255))
def test_a_text_with_imported_keys_is_read_as_a_whole_or_not_at_all(at: int, change: int) -> None:
    """Cut anywhere it is none; with another byte it is none, or has the same number of keys."""
    with pytest.raises(SealError):
        Keyring(Secret.take(IMPORTED[:at]) if at else Secret(1))
    changed = bytearray(IMPORTED)
    changed[at] ^= change
    try:
        keyring = Keyring(Secret.take(changed))
    except SealError:
        return
    assert (len(keyring.versions), len(keyring.imported)) == (2, 2)


def test_which_keyring_extends_which() -> None:
    """Rotated, with an imported key more, or the same; never one with another key in it."""
    first = Keyring(Secret.take(TEXT))
    rotated = first.rotated(0)
    wider = rotated.with_imported(Secret.take(FIRST), 0)
    again = wider.rotated(0).with_imported(Secret.take(SECOND), 0)
    line = (first, rotated, wider, again)
    for older, one in enumerate(line):
        assert [other.extends(one) for other in line] == [number >= older for number in range(4)]
    assert not first.rotated(0).extends(rotated)
    assert not rotated.with_imported(Secret.take(SECOND), 0).extends(wider)
