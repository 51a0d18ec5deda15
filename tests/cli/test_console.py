"""Tables on a terminal, and everywhere else."""

from __future__ import annotations

import io

from luksctl.cli.console import Console


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_drawn_table() -> None:
    """Every cell is there as it is, brackets too, which rich would otherwise take for markup."""
    terminal = _Terminal()
    Console(out=terminal).table(("slot", "key"), [("[0]", "static\x1b[2J")])
    assert "[0]" in terminal.getvalue()
    assert "static·[2J" in terminal.getvalue()


def test_a_file_gets_plain_columns() -> None:
    """No escape sequence gets into a file or a pipe."""
    out = io.StringIO()
    Console(out=out).table(("slot", "key"), [("0", "two\nlines")])
    assert out.getvalue() == "SLOT  KEY\n0     two lines\n"


def test_json_leaves_text_out() -> None:
    """With --json, text and tables say nothing; without it, documents say nothing."""
    out = io.StringIO()
    console = Console(json=True, out=out)
    console.say("text")
    console.table(("a",), [("b",)])
    console.document({"a": 1})
    assert out.getvalue() == '{\n  "a": 1\n}\n'
    out = io.StringIO()
    Console(out=out).document({"a": 1})
    assert out.getvalue() == ""
