"""Secrets that an operator gives: typed at the terminal, or through a descriptor; never as an argument."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.secret import Secret

TERMINAL: Final = "/dev/tty"
# Longer than any passphrase libcryptsetup takes and any private key file.
_LONGEST_BYTES: Final = 64 * 1024
# As long as a terminal makes lines (termios(3)).
_LINE_BYTES: Final = 4096
_NEWLINE: Final = 0x0A
_LOCAL_FLAGS: Final = 3


def read_whole(descriptor: int, what: str) -> Secret:
    """Return what `descriptor` gives until its end; UsageError where that is nothing, or more than 64 KiB."""
    with Secret(_LONGEST_BYTES) as buffer, buffer.view() as view:
        count = 0
        while count < _LONGEST_BYTES and (got := os.readv(descriptor, [view[count:]])):
            count += got
        if count == _LONGEST_BYTES:
            raise UsageError(f"{what} has more than {_LONGEST_BYTES // 1024} KiB")
        return _taken(view, count, what)


def read_file(path: str, what: str) -> Secret:
    """Return the content of the file at `path`; OSError where it cannot be opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_whole(descriptor, what)
    finally:
        os.close(descriptor)


def read_passphrase(what: str, descriptor: int | None, *, terminal: str = TERMINAL) -> Secret:
    """Return a passphrase from `descriptor`, without one newline at its end, or typed at the terminal without an echo.

    UsageError where neither is there, or nothing was given. `what` is the prompt, and names it in errors.
    """
    if descriptor is None:
        with silent_terminal(what, terminal) as screen:
            given = read_line(screen, f"{what}: ", what)
    else:
        given = _from_descriptor(descriptor, what)
    with given, given.view() as view:
        return _taken(view, _without_newline(view, len(given)), what)


@contextmanager
def silent_terminal(what: str, terminal: str = TERMINAL) -> Iterator[int]:
    """Open the terminal and switch its echo off, all but that of newlines; what was typed ahead is thrown away.

    UsageError where there is no terminal. At the end everything is as it was.
    """
    try:
        descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"{what} is needed, and there is no terminal to ask at",
            hint="run it at a terminal, or give it through a descriptor",
        ) from error
    try:
        before = termios.tcgetattr(descriptor)
        silent = termios.tcgetattr(descriptor)
        silent[_LOCAL_FLAGS] = silent[_LOCAL_FLAGS] & ~termios.ECHO | termios.ECHONL
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
        try:
            yield descriptor
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
    finally:
        os.close(descriptor)


def read_line(descriptor: int, prompt: str, what: str) -> Secret:
    """Return the next line of the terminal with the newline at its end; UsageError where input ends (Ctrl-D)."""
    os.write(descriptor, prompt.encode())
    with Secret(_LINE_BYTES) as buffer, buffer.view() as view:
        count = 0
        # The terminal hands out whole lines, but for one that Ctrl-D cut or that is longer than terminals take.
        while count < _LINE_BYTES and (not count or view[count - 1] != _NEWLINE):
            got = os.readv(descriptor, [view[count:]])
            if not got:
                break
            count += got
        return _taken(view, count, what)


def _from_descriptor(descriptor: int, what: str) -> Secret:
    try:
        return read_whole(descriptor, what)
    except OSError as error:
        raise UsageError(f"{what}: descriptor {descriptor} cannot be read: {error.strerror}") from error


def _without_newline(view: memoryview, count: int) -> int:
    return count - 1 if count and view[count - 1] == _NEWLINE else count


def _taken(view: memoryview, count: int, what: str) -> Secret:
    if not count:
        raise UsageError(f"{what} is empty")
    return Secret.take(view[:count])
