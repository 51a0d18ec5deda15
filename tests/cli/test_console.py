"""Tables on a terminal, and everywhere else."""

from __future__ import annotations

import io
import json

import pytest

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
    console.end()
    assert out.getvalue() == '{\n  "a": 1\n}\n'
    out = io.StringIO()
    console = Console(out=out)
    console.document({"a": 1})
    console.end({"error": "DeviceError"})
    assert out.getvalue() == ""


def test_what_fails_after_the_document_is_said_in_it() -> None:
    """One object: the error as ever, and what was done before it."""
    out = io.StringIO()
    console = Console(json=True, out=out)
    console.document({"a": 1})
    console.end({"error": "DeviceError"})
    assert json.loads(out.getvalue()) == {"error": "DeviceError", "done": {"a": 1}}


def test_an_error_alone_is_the_document() -> None:
    """As it is, without anything that was done."""
    out = io.StringIO()
    Console(json=True, out=out).end({"error": "DeviceError"})
    assert json.loads(out.getvalue()) == {"error": "DeviceError"}


def test_what_was_handed_out_is_the_only_document() -> None:
    """A key that is shown once cannot wait for the end, and no error comes behind it."""
    out = io.StringIO()
    console = Console(json=True, out=out)
    console.hand_out({"key": 1})
    assert json.loads(out.getvalue()) == {"key": 1}
    console.end({"error": "DeviceError"})
    assert json.loads(out.getvalue()) == {"key": 1}


def test_a_run_has_one_document() -> None:
    """A second one is a mistake of ours, and no output."""
    console = Console(json=True, out=io.StringIO())
    console.document({"a": 1})
    with pytest.raises(ValueError, match="one document"):
        console.document({"a": 2})
