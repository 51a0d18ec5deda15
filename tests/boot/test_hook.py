"""The boot hook: whatever happens, it ends with a message and a documented code, never with a traceback."""

from __future__ import annotations

import sys
from io import TextIOBase

import pytest

from luksctl.boot import hook
from luksctl.errors import CryptsetupError, LuksctlError
from luksctl.model.step import Done, RepairMeta
from tests.marker import MARKER, shown_in


def _fails_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(hook, "read_settings", fail)


def test_an_unforeseen_error_says_where_and_not_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 1, one line with the place; the text of such an error may hold a key, so it is left out."""
    _fails_with(ValueError(MARKER.decode()), monkeypatch)
    assert hook.run(["STATE"]) == LuksctlError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("<3>a bug in luksctl: ValueError at ")
    assert shown_in(said) == []
    assert "Traceback" not in said


def test_an_error_of_the_system_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A read-only /run ends with the code of a device error, and names the file."""
    _fails_with(OSError(30, "Read-only file system", "/run/luksctl"), monkeypatch)
    assert hook.run(["STATE"]) == 9
    assert capsys.readouterr().err == "<3>/run/luksctl: Read-only file system\n"


def test_what_the_library_logged_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The library's own lines and the notes on an error follow the message."""
    error = CryptsetupError("it failed", errno=5, log=("Device is broken.",))
    error.add_note("META tag 9: it failed as well")
    _fails_with(error, monkeypatch)
    assert hook.run(["STATE"]) == 9
    assert capsys.readouterr().err.splitlines()[1:] == ["<3>META tag 9: it failed as well", "<3>Device is broken."]


class _GoneJournal(TextIOBase):
    def write(self, text: str, /) -> int:  # noqa: ARG002
        raise BrokenPipeError(32, "Broken pipe")


def test_a_journal_that_is_gone_stops_no_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are told between two writes to a disk."""
    monkeypatch.setattr(sys, "stderr", _GoneJournal())
    hook.announce(Done(RepairMeta("STATE")))


@pytest.mark.parametrize(
    "words", [[], ["META"], ["--retry"], ["--network"], ["--network", "META"], ["STATE", "EPHEMERAL"], ["../STATE"]]
)
def test_a_wrong_command_line_is_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Code 64, and how it is called."""
    assert hook.run(words) == 64
    assert "usage: luksctl-boot" in capsys.readouterr().err
