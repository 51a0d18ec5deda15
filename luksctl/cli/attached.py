"""Files that an argument names: on this machine, or sent along by the machine at which the command was typed."""

from __future__ import annotations

import sys

from luksctl.hints import Final, Self, final

STANDARD_INPUT: Final = "standard input"


@final
class Attached(str):
    """The name that a file has where the command was typed, with what is in it."""

    __slots__ = ("content",)
    content: bytes

    def __new__(cls, name: str, content: bytes) -> Self:
        """Return `name` with its content."""
        made = super().__new__(cls, name)
        made.content = content
        return made


def read_bytes(path: str, most: int = -1) -> tuple[bytes, str]:
    """Return what is in `path` (- is standard input), at most so many bytes, and its name for messages.

    OSError where it cannot be read.
    """
    if isinstance(path, Attached):
        return path.content if most < 0 else path.content[:most], str(path)
    if path == "-":
        return sys.stdin.buffer.read(most), STANDARD_INPUT
    with open(path, "rb") as source:
        return source.read(most), path
