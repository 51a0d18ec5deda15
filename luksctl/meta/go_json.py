"""Write JSON exactly as Go's encoding/json does, into memory that can be wiped.

Talos compares tag 9 by bytes and rewrites it when they differ. A passphrase goes from its Secret into the buffer
without becoming a `str`, and the buffer never grows, because growing leaves the old memory behind as it was.
"""

from __future__ import annotations

import re

from luksctl.hints import Final, final

# What Go escapes besides other control characters: quotes, and what HTML or JavaScript would take for its own.
_ESCAPES: Final = {
    0x08: b"\\b",
    0x09: b"\\t",
    0x0A: b"\\n",
    0x0C: b"\\f",
    0x0D: b"\\r",
    0x22: b'\\"',
    0x26: b"\\u0026",
    0x3C: b"\\u003c",
    0x3E: b"\\u003e",
    0x5C: b"\\\\",
}
_SEPARATOR_ESCAPES: Final = {b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}
_FIRST_PRINTABLE: Final = 0x20
_UTF8: Final = (
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*"
)


def string_bound(text_bytes: int) -> int:
    """Return the most bytes that a string of `text_bytes` takes with escapes and quotes."""
    return 6 * text_bytes + 2


@final
class GoJson:
    """A JSON text under construction, in `capacity_bytes` that are wiped by `take` or `wipe`."""

    __slots__ = ("_buffer", "_length")

    def __init__(self, capacity_bytes: int) -> None:
        self._buffer = bytearray(capacity_bytes)
        self._length = 0

    def raw(self, text: str | bytes) -> None:
        """Append `text` as it is; ValueError beyond the capacity."""
        data = text.encode("ascii") if isinstance(text, str) else text
        end = self._length + len(data)
        if end > len(self._buffer):
            raise ValueError("more JSON than its capacity")
        self._buffer[self._length : end] = data
        self._length = end

    def string(self, text: bytes | memoryview) -> None:
        """Append `text` as a string; ValueError when it is not UTF-8 (Go would silently replace what is not)."""
        if re.fullmatch(_UTF8, text) is None:
            raise ValueError("not UTF-8")
        self.raw(b'"')
        offset = 0
        while offset < len(text):
            escaped = _SEPARATOR_ESCAPES.get(bytes(text[offset : offset + 3]))
            self.raw(_escape(text[offset]) if escaped is None else escaped)
            offset += 1 if escaped is None else 3
        self.raw(b'"')

    def take(self) -> bytearray:
        """Return the text, which the caller wipes, and wipe the buffer."""
        with memoryview(self._buffer) as view:
            text = bytearray(view[: self._length])
        self.wipe()
        return text

    def wipe(self) -> None:
        """Zero the buffer and start again."""
        self._buffer[:] = bytes(len(self._buffer))
        self._length = 0


def _escape(byte: int) -> bytes:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return b"\\u%04x" % byte if byte < _FIRST_PRINTABLE else bytes((byte,))
