"""A terminal with somebody in front of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

_LAST = b"end"
_END_OF_INPUT = b"\x04"


class Typist(threading.Thread):
    """Types one line after the other, each when a prompt has come, and Ctrl-D when asked for more."""

    def __init__(self, person: int, lines: Sequence[bytes]) -> None:
        super().__init__()
        self.person, self.lines, self.seen = person, list(lines), b""

    def run(self) -> None:
        """Type, and read the screen until the last word."""
        while not self.seen.endswith(_LAST + b"\r\n"):
            self.seen += os.read(self.person, 1000)
            if self.seen.endswith(b": "):
                os.write(self.person, self.lines.pop(0) if self.lines else _END_OF_INPUT)

    def whole_screen(self) -> bytes:
        """Return all that was shown; the echo is on again, so the last word is seen too."""
        os.write(self.person, _LAST + b"\n")
        self.join()
        assert self.lines == []
        return self.seen
