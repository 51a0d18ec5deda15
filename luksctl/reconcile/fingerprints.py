"""MACs under the volume key: they tell without a key derivation whether a slot holds the key it was noted with."""

from __future__ import annotations

import hmac

from luksctl.hints import Final
from luksctl.model.bookkeeping import Bookkeeping, mac_input
from luksctl.model.config import ConfiguredKey
from luksctl.secret import Secret, wipe

_INFO: Final = b"luksctl bookkeeping 1"
# 128 bits: as many as anyone can search, and half the room in the header.
_MAC_BYTES: Final = 16


class VolumeMac:
    """MACs under HKDF-SHA256(volume key, salt = header UUID) (RFC 5869); holds that key until `close()`."""

    def __init__(self, volume_key: Secret, header_uuid: str) -> None:
        with volume_key.view() as view:
            extracted = hmac.digest(header_uuid.encode(), view, "sha256")
        # hmac takes a key as bytes or bytearray only.
        self._key = bytearray(hmac.digest(extracted, _INFO + b"\x01", "sha256"))

    def close(self) -> None:
        """Wipe the key."""
        wipe(self._key)

    def of_books(self, books: Bookkeeping) -> str:
        """Return the MAC of a bookkeeping token."""
        return self._mac(b"token", mac_input(books))

    def of_key(self, slot: int, slot_digest: bytes, key: Secret) -> str:
        """Return the fingerprint of a slot, as `slot_digest` describes it, that opens with `key`."""
        with key.view() as view:
            return self._mac(b"key", slot.to_bytes(1, "big"), slot_digest, view)

    def of_token(self, key: ConfiguredKey, slot_digest: bytes, token: str) -> str:
        """Return the fingerprint of the slot of `key`, whose provider recovers it from `token`.

        It covers what the config says of that provider: a token of another server, or for other PCRs, is not `key`'s.
        """
        asked = repr(key.source).encode()  # no Secret shows itself there, and these kinds have none
        return self._mac(b"slot token", key.slot.to_bytes(1, "big"), asked, slot_digest, token.encode())

    def equal(self, one: str, other: str) -> bool:
        """Compare two MACs in constant time."""
        return hmac.compare_digest(one.encode(), other.encode())

    def _mac(self, *parts: bytes | memoryview) -> str:
        mac = hmac.new(self._key, digestmod="sha256")
        for part in parts:
            mac.update(len(part).to_bytes(8, "big"))
            mac.update(part)
        return mac.digest()[:_MAC_BYTES].hex()
