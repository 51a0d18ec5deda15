"""Secrets from a descriptor or the terminal: whole, without an echo, and into a Secret."""

from __future__ import annotations

import os
import termios
import threading
from pathlib import Path

import pytest

from luksctl.cli.secret_input import read_file, read_passphrase
from luksctl.errors import UsageError
from luksctl.secret import Secret
from tests.cli.terminals import Typist
from tests.marker import MARKER, shown_in


def content(secret: Secret) -> bytes:
    """Return the bytes of `secret`, and close it."""
    with secret, secret.view() as view:
        return bytes(view)


def from_pipe(data: bytes) -> Secret:
    """Give `data` through a pipe, as a passphrase."""
    reading, writing = os.pipe()
    writer = threading.Thread(target=_write, args=(writing, data))
    writer.start()
    try:
        return read_passphrase("the passphrase", reading)
    finally:
        os.close(reading)
        writer.join()


def _write(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except BrokenPipeError:
        return
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("given", "taken"),
    [(b"pw", b"pw"), (b"pw\n", b"pw"), (b"pw\n\n", b"pw\n"), (b"two\nlines", b"two\nlines"), (b"\xff\0", b"\xff\0")],
)
def test_a_descriptor_gives_all_but_one_newline(given: bytes, taken: bytes) -> None:
    """Bytes as they are, up to the end."""
    assert content(from_pipe(given)) == taken


@pytest.mark.parametrize("given", [b"", b"\n"])
def test_nothing_is_no_passphrase(given: bytes) -> None:
    """An empty one is refused before it is tried."""
    with pytest.raises(UsageError, match="the passphrase is empty"):
        from_pipe(given)


def test_what_never_ends_is_refused(tmp_path: Path) -> None:
    """No secret is that long, and nothing of it is kept."""
    path = tmp_path / "long"
    path.write_bytes(MARKER * 4096)
    with pytest.raises(UsageError, match="more than 64 KiB"):
        read_file(str(path), "the private key")


def test_a_descriptor_that_is_not_open_is_a_wrong_command_line() -> None:
    """It says which one."""
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(UsageError, match=f"descriptor {reading} cannot be read"):
        read_passphrase("the passphrase", reading)


def test_a_terminal_asks_without_an_echo(terminal: tuple[int, str]) -> None:
    """What is typed is taken and not shown, and the echo is back afterwards."""
    person, name = terminal
    before = termios.tcgetattr(person)
    typist = Typist(person, [MARKER + b"\n"])
    typist.start()
    assert content(read_passphrase("Passphrase of x", None, terminal=name)) == MARKER
    assert termios.tcgetattr(person) == before
    shown = typist.whole_screen()
    assert b"Passphrase of x: " in shown
    assert shown_in(shown) == []


def test_an_empty_line_is_no_passphrase(terminal: tuple[int, str]) -> None:
    """As from a descriptor; the end of input (Ctrl-D) too."""
    person, name = terminal
    for keys in (b"\n", b"\x04"):
        typist = Typist(person, [keys])
        typist.start()
        with pytest.raises(UsageError, match="is empty"):
            read_passphrase("Passphrase", None, terminal=name)
        typist.whole_screen()


def test_without_a_terminal_it_says_how_else(tmp_path: Path) -> None:
    """A run by a timer has nobody to ask."""
    with pytest.raises(UsageError, match="no terminal") as caught:
        read_passphrase("the passphrase", None, terminal=str(tmp_path / "none"))
    assert "through a descriptor" in str(caught.value.hint)
