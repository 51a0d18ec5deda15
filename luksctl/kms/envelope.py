"""Sealed data as it lies in the token of a keyslot.

In bytes:

    format (1) | version of the master key, big endian (4) | nonce (12) | AES-256-GCM ciphertext | tag (16)

The key is HKDF-SHA256(master key of that version, info = purpose | format | node), so what one node holds says nothing
of another one's. Format, key version and node are authenticated with the content. `node` is the SHA-256 of the UUID.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.hints import Final
from luksctl.kms.backend import LONGEST_PLAIN, NotSealedHere
from luksctl.kms.keyring import KEY_BYTES, Keyring
from luksctl.kms.reference import opened
from luksctl.secret import Secret, wipe

FORMAT: Final = 1
_PURPOSE: Final = b"luksctl kms node key"
_VERSION_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = 1 + _VERSION_BYTES
OVERHEAD_BYTES: Final = _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES


class KeyringBackend:
    """Seals with the newest master key of a keyring, and opens what any of its versions sealed.

    It opens as well what a reference server sealed whose key was imported; that names no node, so any node gets it.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        # Calls that began with an older keyring end with it.
        self._older: list[Keyring] = []
        self._own = threading.local()

    def renew(self, keyring: Keyring) -> None:
        """Go on with `keyring`, which is to open all that the one before opens."""
        self._older.append(self._keyring)
        self._keyring = keyring

    def seal(self, node: bytes, plain: memoryview) -> bytes:
        """Return an envelope; its nonce is random, as many as a node will ever need."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # the command line needs none

        if not 0 < len(plain) <= LONGEST_PLAIN:
            raise NotSealedHere
        keyring = self._keyring
        version = keyring.newest.version
        head, nonce = _head(version), os.urandom(_NONCE_BYTES)
        with self._node_key(keyring, version, node) as key:
            return head + nonce + AESGCM(key).encrypt(nonce, plain, head + node)

    def unseal(self, node: bytes, sealed: memoryview, into: memoryview) -> int:
        """Open what was sealed; NotSealedHere for another node's, an unknown version, or a changed one."""
        keyring = self._keyring
        length = self._envelope(keyring, node, sealed, into)
        if length == 0 and keyring.imported:
            for key in keyring.imported_keys():
                with key:
                    length = length or opened(key, sealed, into)
        if length == 0:
            raise NotSealedHere
        return length

    def _envelope(self, keyring: Keyring, node: bytes, sealed: memoryview, into: memoryview) -> int:
        """Open an envelope, and return how long its content is; 0 where it is none of this node and keyring."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # as above
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        length = len(sealed) - OVERHEAD_BYTES
        if not 0 < length <= LONGEST_PLAIN or sealed[0] != FORMAT:
            return 0
        head = bytes(sealed[:_HEAD_BYTES])
        version = int.from_bytes(head[1:], "big")
        if not keyring.has(version):
            return 0
        body = sealed[_HEAD_BYTES:]
        with self._node_key(keyring, version, node) as key:
            try:
                AESGCM(key).decrypt_into(body[:_NONCE_BYTES], body[_NONCE_BYTES:], head + node, into[:length])
            except InvalidTag:
                return 0
        return length

    @contextmanager
    def _node_key(self, keyring: Keyring, version: int, node: bytes) -> Iterator[memoryview]:
        """Yield the key of a node, and wipe it; each thread has one place for it, since mapping memory costs more."""
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415  # as above
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        place: Secret | None = getattr(self._own, "place", None)
        if place is None:
            place = self._own.place = Secret(KEY_BYTES)
        hkdf = HKDF(SHA256(), KEY_BYTES, salt=None, info=_PURPOSE + bytes([FORMAT]) + node)
        with keyring.master(version) as master, place.view() as key:
            try:
                hkdf.derive_into(master, key)
                yield key
            finally:
                wipe(key)


def _head(version: int) -> bytes:
    return bytes([FORMAT]) + version.to_bytes(_VERSION_BYTES, "big")
