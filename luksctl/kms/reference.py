"""Talos' reference server, for tests: AES-GCM with the bytes of a file, and random bytes where the key is wrong.

A node that gets random bytes believes that they are its key, and finds out by its keyslot not opening. The reference
also sleeps a second before each answer, which no test needs.
"""

from __future__ import annotations

import os

from luksctl.errors import SealError
from luksctl.hints import Final
from luksctl.kms.backend import NotSealedHere
from luksctl.secret import Secret

KEY_LENGTHS: Final = (16, 24, 32)
_PLAIN_BYTES: Final = 32
_NONCE_BYTES: Final = 12
SEALED_BYTES: Final = _NONCE_BYTES + _PLAIN_BYTES + 16


class ReferenceBackend:
    """nonce (12) | AES-GCM ciphertext and tag (48), nothing authenticated beside it; every node has the same key."""

    def __init__(self, key: Secret) -> None:
        if len(key) not in KEY_LENGTHS:
            raise SealError(
                f"a key file of {len(key)} bytes is none of the reference server", hint="it has 16, 24 or 32 bytes"
            )
        self._key = key

    def seal(self, node: bytes, plain: memoryview) -> bytes:  # noqa: ARG002  # all nodes are one to it
        """Return 60 bytes; NotSealedHere unless 32 were given."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # the command line needs none

        if len(plain) != _PLAIN_BYTES:
            raise NotSealedHere
        nonce = os.urandom(_NONCE_BYTES)
        with self._key.view() as view:
            return nonce + AESGCM(view).encrypt(nonce, plain, None)

    def unseal(self, node: bytes, sealed: memoryview, into: memoryview) -> int:  # noqa: ARG002  # as above
        """Write what was sealed, or 32 random bytes; NotSealedHere unless 60 were given."""
        if len(sealed) != SEALED_BYTES:
            raise NotSealedHere
        with self._key.view() as view:
            if not opened(view, sealed, into):
                into[:_PLAIN_BYTES] = os.urandom(_PLAIN_BYTES)
        return _PLAIN_BYTES


def opened(key: memoryview, sealed: memoryview, into: memoryview) -> int:
    """Write what a reference server with `key` sealed, and return how many bytes it is; 0 where it was another one."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    if len(sealed) != SEALED_BYTES:
        return 0
    try:
        AESGCM(key).decrypt_into(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None, into[:_PLAIN_BYTES])
    except InvalidTag:
        return 0
    return _PLAIN_BYTES
