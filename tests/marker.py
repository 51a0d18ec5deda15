"""A marker secret and where it shows: used wherever a test asks whether a key can reach a reader."""

from __future__ import annotations

import base64

MARKER = b"Marker-Key-1f9c-must-stay-unseen"


def forms_of(secret: bytes) -> dict[str, bytes]:
    """Return the ways in which `secret` could stand in a text: as it is, in hex, in base64, as a list of numbers."""
    return {
        "plain": secret,
        "hex": secret.hex().encode(),
        "upper-case hex": secret.hex().upper().encode(),
        "base64": base64.b64encode(secret).rstrip(b"="),
        "decimal list": ", ".join(str(byte) for byte in secret).encode(),
    }


def shown_in(text: str | bytes, secret: bytes = MARKER) -> list[str]:
    """Return in which forms `secret` can be read in `text`; none is the only good answer."""
    content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return [name for name, form in forms_of(secret).items() if form in content]
