"""A command for another node: its words, and on standard input whatever only this machine has.

    luksctl --attached apply-config --file=attached:0 --config-patch=attached:1

    [["machine.yaml", 812], ["patch 1", 40]]      names and sizes, on one line
    (812 bytes) (40 bytes)                        what is in them
    (the rest)                                    what the command itself reads: a text, or a key

So no config, patch or key stands in an argument list, here or there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from luksctl.cli.attached import STANDARD_INPUT, Attached, read_bytes
from luksctl.cli.command_line import Command
from luksctl.cli.parser import Given, Takes
from luksctl.cli.patches import file_named
from luksctl.cli.secret_input import read_whole
from luksctl.errors import ConfigError, Problem, UsageError
from luksctl.hints import Final, final
from luksctl.secret import Secret
from luksctl.units import MIB

_REFERENCE: Final = re.compile(r"attached:(\d{1,3})")
_INPUT: Final = 0
_LONGEST_LINE_BYTES: Final = 64 * 1024
_MOST_BYTES: Final = 256 * MIB


@final
class Errand:
    """What is sent: `words` for an argument list, `parts` and `rest` for standard input."""

    def __init__(self, command: Command) -> None:
        """Read what the arguments name, all but a secret; ConfigError and UsageError where that does not go."""
        self.parts: list[Attached] = []
        self._text: bytes | None = None
        self._descriptor: int | None = None
        words, parser = command.parser.command_of(command.arguments)
        given = [word for each in parser.given(command.arguments) for word in self._spelled(each)]
        self._command = (command.verb.name, *words, *given)
        self._before = tuple(_common(command))

    def line(self) -> str:
        """Return the command line, as a shell takes it."""
        attached = ("--attached",) if self.parts else ()
        return shlex.join(("luksctl", *self._before, *attached, *self._command))

    def line_of(self, verb: str, *words: str) -> str:
        """Return that of another verb, with the same arguments and these; JSON comes back, and a file goes with it."""
        common = (word for word in self._before if word != "--json")
        return shlex.join(("luksctl", *common, "--json", "--attached", verb, *words, *self._command[1:]))

    @contextmanager
    def pieces(self) -> Iterator[list[bytes | memoryview]]:
        """Give what goes to standard input, piece by piece; a secret is wiped at the end."""
        found: list[bytes | memoryview] = []
        if self.parts:
            found += bundle(self.parts)
        if self._text is not None:
            found.append(self._text)
        opened: AbstractContextManager[Secret | None] = nullcontext()
        if self._descriptor is not None:
            opened = read_whole(self._descriptor, "the key")
        with opened as secret:
            if secret is None:
                yield found
            else:
                with secret.view() as view:
                    yield [*found, view]

    def _spelled(self, given: Given) -> Iterator[str]:
        values = given.value if isinstance(given.value, list) else [given.value]
        if isinstance(given.value, tuple):
            values = [",".join(given.value)]
        for number, value in enumerate(values, start=1):
            text = self._sent(given.takes, value, number)
            if isinstance(value, bool):
                yield given.option or ""
            elif given.option is not None:
                yield f"{given.option}={text}"
            elif text.startswith("-") and text != "-":
                raise UsageError(f"{text} cannot be sent to another node: it looks like an option")
            else:
                yield text

    def _sent(self, takes: Takes | None, value: object, number: int) -> str:
        """Return what stands in the argument list for `value`."""
        match takes:
            case Takes.FILE:
                return self._attach(*_read(str(value)))
            case Takes.PATCH:
                name = file_named(str(value))
                text = str(value).encode("utf-8", "surrogateescape")
                return self._attach(*((text, f"patch {number}") if name is None else _read(name)))
            case Takes.TEXT:
                text = str(value).encode("utf-8", "surrogateescape")
                self._text = read_bytes("-")[0] if value == "-" else text
                return "-"
            case Takes.DESCRIPTOR:
                return self._read_there(str(value))
            case None:
                return str(value)

    def _read_there(self, text: str) -> str:
        """Return N, or SLOT:N, as the descriptor at which the other node finds the secret."""
        slot, colon, number = text.rpartition(":")
        if not number.isdecimal():
            raise UsageError(f"{text} names no open file", hint="a number, or SLOT:N for the key of a keyslot")
        if self._descriptor is not None or "," in slot:
            raise UsageError("one secret goes with a command to another node, not several", hint="run it on the node")
        self._descriptor = int(number)
        return f"{slot}{colon}{_INPUT}"

    def _attach(self, content: bytes, name: str) -> str:
        self.parts.append(Attached(name, content))
        if sum(len(part.content) for part in self.parts) > _MOST_BYTES:
            raise UsageError(f"{name} is too long to be sent: over {_MOST_BYTES // MIB} MiB")
        return f"attached:{len(self.parts) - 1}"


def bundle(parts: list[Attached]) -> list[bytes]:
    """Return what goes to standard input for files that are sent."""
    head = json.dumps([[str(part), len(part.content)] for part in parts]).encode() + b"\n"
    return [head, *(part.content for part in parts)]


def _common(command: Command) -> Iterator[str]:
    if command.arguments.settings is not None:
        yield f"--settings={command.arguments.settings}"
    yield from (f"--{name}" for name in ("json", "debug") if getattr(command.arguments, name))


def _read(path: str) -> tuple[bytes, str]:
    try:
        return read_bytes(path, _MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError((Problem("", f"it cannot be read: {error.strerror}", file=path),)) from error


# ---- on the node ----------------------------------------------------------------------------------------------------


def receive(command: Command) -> None:
    """Put what standard input brings in the place of its references; what comes behind it is left there.

    UsageError where it is not what a luksctl sends.
    """
    parts = [Attached(name, _exactly(size_bytes)) for name, size_bytes in _announced()]
    _, parser = command.parser.command_of(command.arguments)
    for given in parser.given(command.arguments):
        if given.takes in (Takes.FILE, Takes.PATCH):
            values = given.value if isinstance(given.value, list) else [given.value]
            found = [_resolved(value, parts) for value in values]
            setattr(command.arguments, given.name, found if isinstance(given.value, list) else found[0])


def _resolved(value: str, parts: list[Attached]) -> str:
    match = _REFERENCE.fullmatch(value)
    if match is None:
        return value
    number = int(match[1])
    if number >= len(parts):
        raise UsageError(f"{value} was not sent")
    return parts[number]


def _announced() -> list[tuple[str, int]]:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(_INPUT, 1)
        if not byte or len(line) >= _LONGEST_LINE_BYTES:
            raise UsageError(f"{STANDARD_INPUT} does not say what is attached", hint="luksctl --nodes sends that")
        line += byte
    try:
        found = [(str(name), int(size)) for name, size in json.loads(line)]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{STANDARD_INPUT} does not say what is attached") from error
    if any(size < 0 for _, size in found) or sum(size for _, size in found) > _MOST_BYTES:
        raise UsageError(f"more is attached than {_MOST_BYTES // MIB} MiB")
    return found


def _exactly(size_bytes: int) -> bytes:
    found = bytearray()
    while len(found) < size_bytes:
        part = os.read(_INPUT, min(size_bytes - len(found), MIB))
        if not part:
            raise UsageError(f"{STANDARD_INPUT} ended before all that is attached had come")
        found += part
    return bytes(found)
