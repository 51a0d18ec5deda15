"""ssh without a network: the command line that would go to another node is run here, on one made up in memory."""

from __future__ import annotations

import io
import os
import shlex
import tempfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from threading import Lock

import pytest

from luksctl.cli.main import main
from luksctl.devices.ssh import Ending

_TURNS = Lock()


class StandIn:
    """What luksctl.devices.ssh.Client is; every host is the same node. `lines` are those that were run."""

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self.lines = lines

    def run(self, host: str, line: str, pieces: Iterable[bytes | memoryview], tell: Callable[[str], None]) -> Ending:
        """Run the line with `pieces` as the standard input of this process."""
        with _TURNS, tempfile.TemporaryFile() as sent:
            self.lines.append((host, line))
            for piece in pieces:
                sent.write(piece)
            sent.seek(0)
            before = os.dup(0)
            os.dup2(sent.fileno(), 0)
            out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
            try:
                with redirect_stdout(out), redirect_stderr(err):
                    code = main(shlex.split(line)[1:])
            finally:
                os.dup2(before, 0)
                os.close(before)
            notes = err.getvalue().splitlines()
            for note in notes:
                tell(note)
            return Ending(code, out.buffer.getvalue(), notes[-1] if notes else "")

    def stop(self) -> None:
        """Nothing goes on."""


def stand_in(patch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Have every node be this one; return the list of what is run there."""
    lines: list[tuple[str, str]] = []
    patch.setattr("luksctl.cli.nodes.Client", lambda: StandIn(lines))
    return lines
