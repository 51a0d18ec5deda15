"""What is sealed: bytes by hand, one key for each node and version, nothing that can be changed."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.kms.backend import LONGEST_PLAIN, NotSealedHere
from luksctl.kms.envelope import OVERHEAD_BYTES, KeyringBackend
from luksctl.kms.identity import identity_of
from luksctl.kms.keyring import Keyring
from luksctl.secret import Secret
from tests.kms.serving import KEY, NODE, OTHER

MASTER = bytes(range(32))
TEXT = b"luksctl-kms-key1" + b"\x00\x01" + b"\x00\x00\x00\x01" + bytes(8) + MASTER
FIXED = (
    "0100000001a8c62fdefa1db2f7c9aa9030653cd4f344b644efb7c6192aa538b0"
    "a06e7d39584894c1d3c6a6b1b9ff920dd8c7783940be8cb04ed5c4686f74218d1d"
)
WHO, WHO_ELSE = identity_of(NODE), identity_of(OTHER)


def _backend() -> KeyringBackend:
    return KeyringBackend(Keyring(Secret.take(TEXT)))


def _opened(backend: KeyringBackend, node: bytes, sealed: bytes) -> bytes:
    into = bytearray(LONGEST_PLAIN)
    length = backend.unseal(node, memoryview(sealed), memoryview(into))
    assert not any(into[length:])
    return bytes(into[:length])


def test_the_bytes_are_those_of_the_documents() -> None:
    """Opened here by what the head of the module says, and nothing else of it."""
    sealed = _backend().seal(WHO, memoryview(KEY))
    assert (sealed[0], sealed[1:5], len(sealed)) == (1, b"\x00\x00\x00\x01", 1 + 4 + 12 + 32 + 16)
    node = hashlib.sha256(NODE.encode()).digest()
    key = HKDF(SHA256(), 32, salt=None, info=b"luksctl kms node key\x01" + node).derive(MASTER)
    assert AESGCM(key).decrypt(sealed[5:17], sealed[17:], sealed[:5] + node) == KEY


def test_what_was_sealed_before_still_opens() -> None:
    """An envelope that was made once and written down: whoever changes the form changes this test."""
    sealed = bytes.fromhex(FIXED)
    assert _opened(_backend(), WHO, sealed) == KEY


def test_no_two_are_alike() -> None:
    """The nonce is random: the same key, sealed twice, says nothing of being the same."""
    backend = _backend()
    assert backend.seal(WHO, memoryview(KEY)) != backend.seal(WHO, memoryview(KEY))


@settings(deadline=None)
@given(plain=st.binary(min_size=1, max_size=LONGEST_PLAIN), position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_every_bit_counts(plain: bytes, position: int, bit: int) -> None:
    """Head, nonce, content and tag: one changed bit, a cut, or something behind it, and nothing opens."""
    backend = _backend()
    sealed = backend.seal(WHO, memoryview(plain))
    assert len(sealed) == len(plain) + OVERHEAD_BYTES
    assert _opened(backend, WHO, sealed) == plain
    changed = bytearray(sealed)
    changed[position % len(sealed)] ^= 1 << bit
    for wrong in (bytes(changed), sealed[: position % len(sealed)], sealed + b"\x00"):
        with pytest.raises(NotSealedHere):
            _opened(backend, WHO, wrong)


def test_another_node_opens_nothing() -> None:
    """Its key is another one, and so is what is authenticated."""
    backend = _backend()
    with pytest.raises(NotSealedHere):
        _opened(backend, WHO_ELSE, backend.seal(WHO, memoryview(KEY)))


def test_older_versions_open_and_the_newest_seals() -> None:
    """Through a hundred rotations; a version that is moved to another number opens nothing."""
    keyring = Keyring.new(1)
    kept = [KeyringBackend(keyring).seal(WHO, memoryview(KEY))]
    for number in range(2, 101):
        keyring = keyring.rotated(number)
        kept.append(KeyringBackend(keyring).seal(WHO, memoryview(KEY)))
    backend = KeyringBackend(keyring)
    for number, sealed in enumerate(kept, start=1):
        assert int.from_bytes(sealed[1:5], "big") == number
        assert _opened(backend, WHO, sealed) == KEY
    for wrong in (0, 2, 101, 0xFFFFFFFF):
        with pytest.raises(NotSealedHere):
            _opened(backend, WHO, kept[0][:1] + wrong.to_bytes(4, "big") + kept[0][5:])


@pytest.mark.parametrize("length", [0, LONGEST_PLAIN + 1])
def test_only_short_things_are_sealed(length: int) -> None:
    """Keys, and not files."""
    with pytest.raises(NotSealedHere):
        _backend().seal(WHO, memoryview(bytes(length)))
