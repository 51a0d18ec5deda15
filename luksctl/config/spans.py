"""Find places in a YAML text: lines, comments, the colon behind a key, the dash in front of an element."""

from __future__ import annotations

import re

from luksctl.hints import Final, final
from luksctl.value import frozen

# Between a key and its colon on the same line.
_COLON: Final = re.compile(r"[ \t]*:(?=[\s]|$)")
_BLANK: Final = re.compile(r"(?:\s+|(?:(?<=\s)|^)#[^\r\n]*)*")
_PROPERTIES: Final = re.compile(r"(?:[&!]\S*(?:\s+|(?<=\s)#[^\r\n]*)+)*")
_QUOTES: Final = frozenset("\"'")


@frozen
class Place:
    """Where a value stands: `after` the colon or dash in front of it, in a collection at `column` (-1: a document).

    `dash` tells an element of a block list; `flow` that it is within braces or brackets, `json` in those of JSON.
    """

    after: int
    column: int
    dash: bool = False
    flow: bool = False
    json: bool = False


@final
class Text:
    """The characters of a text, without byte order mark, and questions about them."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        end = characters.find("\n")
        self.newline = "\r\n" if end > 0 and characters[end - 1] == "\r" else "\n"

    def line_start(self, position: int) -> int:
        """Return where the line begins."""
        return self.characters.rfind("\n", 0, position) + 1

    def line_end(self, position: int) -> int:
        """Return where the line ends, without its line break."""
        end = self.characters.find("\n", position)
        if end < 0:
            return len(self.characters)
        return end - 1 if end > position and self.characters[end - 1] == "\r" else end

    def column(self, position: int) -> int:
        """Return how many characters stand in front on the line."""
        return position - self.line_start(position)

    def is_alone(self, position: int) -> bool:
        """Tell whether only spaces stand in front on the line."""
        return not self.characters[self.line_start(position) : position].strip(" ")

    def lines_of(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of whole lines, with the line break in front of them or, in the first line, behind them."""
        begin, stop = self.line_start(start), self.line_end(end)
        if begin == 0:
            following = self.characters.find("\n", stop)
            return 0, len(self.characters) if following < 0 else following + 1
        return begin - (2 if self.characters[:begin].endswith("\r\n") else 1), stop

    def next_content(self, position: int) -> int:
        """Return where the next line that is not empty begins, behind its spaces."""
        end = self.line_end(position)
        rest = self.characters[end:]
        return end + len(rest) - len(rest.lstrip())

    def behind_colon(self, start: int, end: int) -> int | None:
        """Return the place behind the colon of the key between `start` and `end`; None where it stands apart."""
        before = self.characters[self.line_start(start) : start].rstrip(" ")
        if before.endswith("?"):
            return None
        quoted = end > 0 and self.characters[end - 1] in _QUOTES
        match = re.compile(r"[ \t]*:").match(self.characters, end) if quoted else _COLON.match(self.characters, end)
        return None if match is None else match.end()

    def behind_properties(self, position: int) -> int:
        """Return where a node's own text begins, behind anchor and tag."""
        match = _PROPERTIES.match(self.characters, position)
        return position if match is None else match.end()

    def dash(self, position: int) -> int | None:
        """Return where the next dash stands, behind blanks and comments only."""
        match = _BLANK.match(self.characters, position)
        place = position if match is None else match.end()
        return place if self.characters[place : place + 1] == "-" else None
