"""Programs of this host that a guest needs, and what they said."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from rig import host

if TYPE_CHECKING:
    from pathlib import Path

SOCKET_TIMEOUT_S = 30.0
TAIL_LINES = 40


def spawn(argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that dies with this process, its output in a file."""
    # The kernel kills it when we die, however we die: no test run leaves a guest behind.
    command = [host.program("setpriv"), "--pdeathsig", "KILL", "--", host.program(argv[0]), *argv[1:]]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program we started, and wait for it."""
    if process.poll() is None:
        process.kill()
    process.wait()


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log that may not be there."""
    if not path.exists():
        return "(nothing)"
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 200 * lines))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
