"""The text that is in a tpm keyslot: base64 of the sealed bytes, made without leaving copies of them behind."""

from __future__ import annotations

from luksctl.hints import Final
from luksctl.secret import Secret

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PADDING: Final = ord("=")


def base64_text(content: Secret) -> Secret:
    """Return `content` in base64 (RFC 4648, padded); the codecs of Python would leave it in memory nobody wipes."""
    text = Secret((len(content) + 2) // 3 * 4)
    with content.view() as source, text.view() as target:
        for group, start in enumerate(range(0, len(source), 3)):
            part = source[start : start + 3]
            characters = len(part) + 1
            for index in range(4):
                position = group * 4 + index
                target[position] = _ALPHABET[_sextet(part, index)] if index < characters else _PADDING
            part.release()
    return text


def _sextet(part: memoryview, index: int) -> int:
    """Return the `index`th six bits of one to three bytes; what is missing behind them is zero."""
    before = part[index - 1] if index else 0
    byte = part[index] if index < len(part) else 0
    return (before << 8 | byte) >> (2 + 2 * index) & 0x3F
