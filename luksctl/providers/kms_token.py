"""The `sideroKMS` token: what the KMS made of a key, as Talos keeps it (talos-formats 2.3)."""

from __future__ import annotations

import base64
import binascii
import json

from luksctl.errors import TokenInvalid
from luksctl.hints import Final

TYPE: Final = "sideroKMS"
# The reference server seals 32 bytes into 60; whoever needs far more seals something else.
LONGEST_SEALED_BYTES: Final = 4096


def write_token(sealed: bytes) -> str:
    """Return the token of a key that was sealed into `sealed`; `keyslots` is empty, since it is written first."""
    data = {"sealedData": base64.b64encode(sealed).decode("ascii")}
    return json.dumps({"UserData": data, "type": TYPE, "keyslots": []}, separators=(",", ":"))


def read_token(text: str | None) -> bytes:
    """Return what the KMS is to unseal; TokenInvalid where there is no token, or one that no KMS made."""
    if text is None:
        raise TokenInvalid("the slot has no token, and the key of a kms slot is kept in one")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenInvalid("the token is not JSON") from error
    if not isinstance(document, dict) or document.get("type") != TYPE:
        raise TokenInvalid(f"the token is not of the type {TYPE}")
    data = document.get("UserData")
    encoded = data.get("sealedData") if isinstance(data, dict) else None
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
