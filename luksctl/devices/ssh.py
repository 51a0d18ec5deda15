"""Start OpenSSH's client, which knows how to reach another node and whether it is the right one.

As an editor, it is a program of the person at the terminal: it sees all of the environment, and LUKSCTL_SSH may name
another one, with arguments.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Lock, Thread

from luksctl.errors import DeviceError, UsageError
from luksctl.hints import IO, Final, final
from luksctl.value import field, frozen

VARIABLE: Final = "LUKSCTL_SSH"
_OTHERWISE: Final = "ssh"
# Nobody is asked anything: several nodes are reached at once, and standard input is taken. A node that is gone is
# found out in a minute, whatever runs there.
_QUIET: Final = ("-T", "-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=15", "-oServerAliveCountMax=4")
_HOST: Final = re.compile(r"(ssh://)?[\w.@:%\[\]-]+")


@frozen
class Ending:
    """How the client ended: with 255 where it failed itself, else as the command there; and what that printed."""

    code: int
    out: bytes = field(repr=False)
    last_note: str


def expect_host(text: str) -> None:
    """Raise UsageError unless `text` may be the name of a host, with or without a user in front."""
    if _HOST.fullmatch(text) is None or text.startswith("-"):
        raise UsageError(f"{text!r} is no host", hint="HOST, USER@HOST or ssh://USER@HOST:PORT")


@final
class Client:
    """Sessions with other nodes; `stop` ends those that go on."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        try:
            self._command = shlex.split(environment.get(VARIABLE) or _OTHERWISE)
        except ValueError as error:
            raise UsageError(f"{VARIABLE} cannot be understood: {error}") from error
        self._lock = Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopped = False

    def run(self, host: str, line: str, pieces: Iterable[bytes | memoryview], tell: Callable[[str], None]) -> Ending:
        """Run the command `line` on `host` to its end, with `pieces` as its standard input.

        `tell` gets each line of its standard error as it comes. DeviceError where the client cannot be started.
        """
        process = self._start([*self._command, *_QUIET, "--", host, line])
        notes: list[str] = []
        threads = (
            Thread(target=_write, args=(process.stdin, list(pieces))),
            Thread(target=_pass_on, args=(process.stderr, notes, tell)),
        )
        with process:
            for thread in threads:
                thread.start()
            out = b"" if process.stdout is None else process.stdout.read()
            for thread in threads:
                thread.join()
        return Ending(process.returncode, out, next((note for note in reversed(notes) if note.strip()), ""))

    def stop(self) -> None:
        """End the sessions that go on; no other one begins."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    process.terminate()

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        with self._lock:
            if self._stopped:
                raise DeviceError("interrupted")
            try:
                process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
            except OSError as error:
                raise _not_started(argv[0], error) from error
            self._running.append(process)
        return process


def _not_started(name: str, error: OSError) -> DeviceError:
    return DeviceError(f"{name} could not be started: {error.strerror}", hint="apt-get install openssh-client")


def _write(stream: IO[bytes], pieces: list[bytes | memoryview]) -> None:
    # Whoever ended before it had read everything says by its exit code why.
    with suppress(BrokenPipeError), stream:
        for piece in pieces:
            stream.write(piece)
            stream.flush()


def _pass_on(stream: IO[bytes], notes: list[str], tell: Callable[[str], None]) -> None:
    for raw in stream:
        notes.append(raw.decode("utf-8", "replace").rstrip("\r\n"))
        tell(notes[-1])
