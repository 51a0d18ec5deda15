"""The `sideroKMS` token: what the KMS made of a key, as Talos keeps it (talos-formats 2.3)."""

from __future__ import annotations

import base64
import binascii

from luksctl.errors import TokenInvalid
from luksctl.hints import Final
from luksctl.providers.talos_token import read_talos_token, write_talos_token

TYPE: Final = "sideroKMS"
# The reference server seals 32 bytes into 60; whoever needs far more seals something else.
LONGEST_SEALED_BYTES: Final = 4096


def write_token(sealed: bytes) -> str:
    """Return the token of a key that was sealed into `sealed`."""
    return write_talos_token(TYPE, {"sealedData": base64.b64encode(sealed).decode("ascii")})


def read_token(text: str | None) -> bytes:
    """Return what the KMS is to unseal; TokenInvalid where there is no token, or one that no KMS made."""
    encoded = read_talos_token(text, TYPE, "kms").get("sealedData")
    if not isinstance(encoded, str) or len(encoded) > LONGEST_SEALED_BYTES * 4 // 3 + 4:
        raise _wrong()
    try:
        sealed = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong() from error
    if not sealed:
        raise _wrong()
    return sealed


def _wrong() -> TokenInvalid:
    return TokenInvalid("the token's sealedData is not what a KMS gives")
