"""meta list, read, write and delete: Talos' syntax, no secret by the way, and no tag of others without being asked."""

from __future__ import annotations

import io
import sys

import pytest

from tests.cli.desk import Desk, encrypted
from tests.marker import MARKER

_TAG9 = '{"EncryptionProvider":"luks2","EncryptionKeys":[{"KeySlot":0,"KeyStatic":{"KeyData":"%s"}}]}'


def test_a_tag_goes_round(desk: Desk) -> None:
    """Written, listed, read and deleted; a deleted one is an error that names it."""
    assert desk.run("meta", "write", "0x0c", "hello").code == 0
    assert "0x0c  12  user reserved 1  hello" in desk.run("meta", "list").out
    assert desk.run("meta", "read", "12").out == "hello\n"
    assert desk.run("meta", "read", "12", "--output", "raw").out == "hello"
    assert desk.run("meta", "delete", "12").code == 0
    gone = desk.run("meta", "read", "12")
    assert gone.code == 10
    assert "0x0c" in gone.err


@pytest.mark.parametrize("words", [("write", "9", "x"), ("write", "0xe0", "x"), ("delete", "0x06")])
def test_the_tags_of_others_have_to_be_meant(desk: Desk, words: tuple[str, ...]) -> None:
    """Talos' and our own tags need --yes where nobody can be asked; META is untouched."""
    before = desk.bytes_of("meta")
    answer = desk.run("meta", *words)
    assert answer.code == 64
    assert "belongs to" in answer.err
    assert desk.bytes_of("meta") == before


def test_with_yes_there_is_a_warning(desk: Desk) -> None:
    """The write goes through and says whose tag it was."""
    answer = desk.run("meta", "write", "0x06", "A", "--yes")
    assert answer.code == 0
    assert "warning: Tag 0x06 (upgrade marker) belongs to Talos" in answer.err


def test_passphrases_are_shown_only_when_asked_for(desk: Desk) -> None:
    """Tag 9 reads as REDACTED, in JSON too; raw output needs --show-secrets."""
    desk.run("meta", "write", "9", _TAG9 % MARKER.decode(), "--yes")
    for words in (("read", "9"), ("read", "9", "--json"), ("list",), ("list", "--json")):
        answer = desk.run("meta", *words)
        assert answer.code == 0
        assert MARKER.decode() not in answer.out + answer.err
        assert "REDACTED" in answer.out
    assert desk.run("meta", "read", "9", "-o", "raw").code == 64
    assert MARKER.decode() in desk.run("meta", "read", "9", "-o", "raw", "--show-secrets").out
    assert desk.run("meta", "read", "9", "--show-secrets", "--json").json["value"] == _TAG9 % MARKER.decode()


def test_the_machine_token_is_a_secret_too(desk: Desk) -> None:
    """Tag 16 lets a machine in elsewhere: only its size is shown."""
    desk.run("meta", "write", "16", MARKER.decode(), "--yes")
    assert MARKER.decode() not in desk.run("meta", "read", "16").out


def test_a_value_can_come_from_standard_input(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads the bytes as they are, which no process list shows."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xffb\n")))
    assert desk.run("meta", "write", "13", "-").code == 0
    assert "4 bytes that are not text" in desk.run("meta", "read", "13").out
    assert desk.run("meta", "read", "13", "--json").json["value"] is None


def test_a_meta_that_is_not_there_is_an_error(desk: Desk) -> None:
    """Code 9 or 10 and what was looked for, never an empty list."""
    desk.path("meta").write_bytes(b"\xff" * (1 << 20))
    desk.write_config(encrypted())
    answer = desk.run("meta", "list")
    assert answer.code == 10
    assert answer.out == ""
