"""The versions of the master key: bytes by hand, and nothing that is merely like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import SealError
from luksctl.kms.keyring import MOST_VERSIONS, Keyring, is_keyring
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
