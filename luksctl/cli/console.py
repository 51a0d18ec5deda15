"""What a verb says: text or a table for people, or one JSON object; warnings and progress on standard error.

rich draws tables where standard output is a terminal and rich is installed; it is not imported otherwise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from luksctl.hints import TextIO


def printable(text: str) -> str:
    """Return `text` without anything that a terminal would obey: labels come from disks."""
    return "".join(character if character.isprintable() or character == "\n" else "·" for character in text)


class Console:
    """Where output goes. With `json`, text for people is left out, and a run prints one document, when it ends."""

    def __init__(self, *, json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.json = json
        self.out = sys.stdout if out is None else out
        self.err = sys.stderr if err is None else err
        self._document: object = None
        self._printed = False

    def say(self, text: str = "") -> None:
        """Print text for people."""
        if not self.json:
            self.out.write(f"{printable(text)}\n")

    def note(self, text: str) -> None:
        """Print a warning or a line of progress on standard error."""
        self.err.write(f"{printable(text)}\n")
        self.err.flush()

    def document(self, value: object) -> None:
        """Take `value` as the one document of this run; what fails after it is said in the same document."""
        if self._document is not None:
            raise ValueError("a run has one document")
        self._document = value

    def end(self, error: dict[str, object] | None = None) -> None:
        """Print the document of this run if JSON was asked for: what was done, or the `error`, and what was `done`.

        Where something was handed out already, that was the document, and an error stands on standard error alone.
        """
        found, self._document = self._document, None
        if error is not None:
            found = error if found is None else {**error, "done": found}
        if self.json and found is not None and not self._printed:
            self._print(found)
        self.out.flush()

    def hand_out(self, value: object) -> None:
        """Print `value` now, as the one document, whatever fails later; BrokenPipeError where nobody reads it."""
        self._print(value)
        self.out.flush()

    def _print(self, value: object) -> None:
        json.dump(value, self.out, indent=2)
        self.out.write("\n")
        self._printed = True

    def raw(self, data: bytes | memoryview) -> None:
        """Print bytes as they are, as the one document."""
        self.out.flush()
        self.out.buffer.write(data)
        self.out.flush()
        self._printed = True

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people."""
        if self.json:
            return
        cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
        if not (self.out.isatty() and self._draw(columns, cells)):
            self.out.write(plain_table(columns, cells))

    def _draw(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        try:
            from rich.console import Console as Terminal  # noqa: PLC0415  # costs more than the rest of the start
            from rich.table import Table  # noqa: PLC0415
            from rich.text import Text  # noqa: PLC0415
        except ImportError:
            return False
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Terminal(file=self.out).print(table)
        return True


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns that line up, two spaces apart."""
    lines = [[name.upper() for name in columns], *rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    shown = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "".join(f"{line}\n" for line in shown)
