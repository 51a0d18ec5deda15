"""What the tokens of Talos have in common: their type, an object with what the provider keeps, and no keyslots."""

from __future__ import annotations

import json

from luksctl.errors import TokenInvalid
from luksctl.hints import Any


def write_talos_token(token_type: str, data: dict[str, object]) -> str:
    """Return the JSON as Talos writes it; `keyslots` is empty, since the token is written before the slot."""
    return json.dumps({"UserData": data, "type": token_type, "keyslots": []}, separators=(",", ":"))


def read_talos_token(text: str | None, token_type: str, kind: str) -> dict[str, Any]:
    """Return what the provider of `kind` kept; TokenInvalid where there is no token, or one of another type."""
    if text is None:
        raise TokenInvalid(f"the slot has no token, and the key of a {kind} slot is kept in one")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokenInvalid("the token is not JSON") from error
    if not isinstance(document, dict) or document.get("type") != token_type:
        raise TokenInvalid(f"the token is not of the type {token_type}")
    data = document.get("UserData")
    return data if isinstance(data, dict) else {}
