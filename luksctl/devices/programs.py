"""Starting the few programs that nobody wrote a library for: argument lists, small environment, no child left over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from luksctl.errors import DeviceError
from luksctl.hints import TYPE_CHECKING, Final
from luksctl.value import frozen

if TYPE_CHECKING:
    import subprocess

SEARCH_PATH: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SHOWN_LINES: Final = 5
_PROGRESS_AFTER_S: Final = 2.0
_PROGRESS_EVERY_S: Final = 1.0

# Called with the seconds since the start, once a second from the second second on.
Progress = Callable[[float], None]


@frozen
class Program:
    """A program and the Debian package that has it."""

    name: str
    package: str


def locate(program: Program, search_path: Sequence[str] = SEARCH_PATH) -> str:
    """Return the path of the program; DeviceError naming its package where it is not installed."""
    for directory in search_path:
        path = f"{directory}/{program.name}"
        if os.access(path, os.X_OK):
            return path
    raise DeviceError(f"{program.name} is not installed", hint=f"apt-get install {program.package}")


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: str | None = None,
    progress: Progress | None = None,
    good: Sequence[int] = (0,),
) -> str:
    """Run a program to its end and return its standard output; it succeeded where it ends with a code of `good`.

    It sees a fixed PATH, the C.UTF-8 locale and nothing else of our environment; without `stdin` it reads /dev/null.
    DeviceError with the last lines it wrote when it fails or takes longer than `timeout_s`. Whatever exception leaves
    this function, the program has ended by then.
    """
    import subprocess  # noqa: PLC0415  # a converged boot starts no program

    name = os.path.basename(argv[0])
    environment = {"PATH": ":".join(SEARCH_PATH), "LC_ALL": "C.UTF-8"}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    source = nothing if stdin is None else pipe
    with subprocess.Popen(
        argv, stdin=source, stdout=pipe, stderr=pipe, env=environment, cwd="/", text=True, errors="replace"
    ) as process:
        try:
            output, complaints = _communicate(process, stdin, timeout_s, progress)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"{name} had not ended after {timeout_s:g} s and was stopped", operation=name) from error
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode not in good:
        raise DeviceError(f"{_ending(process.returncode)}: {_last_lines(complaints or output)}", operation=name)
    return output


def _communicate(
    process: subprocess.Popen[str], stdin: str | None, timeout_s: float, progress: Progress | None
) -> tuple[str, str]:
    if progress is None:
        return process.communicate(stdin, timeout=timeout_s)
    from subprocess import TimeoutExpired  # noqa: PLC0415  # as in run

    began = time.monotonic()
    slice_s = min(_PROGRESS_AFTER_S, timeout_s)
    while True:
        try:
            return process.communicate(stdin, timeout=slice_s)
        except TimeoutExpired:
            elapsed_s = time.monotonic() - began
            if elapsed_s >= timeout_s:
                raise
            progress(elapsed_s)
            slice_s = min(_PROGRESS_EVERY_S, timeout_s - elapsed_s)


def _ending(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exited with {code}"


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-_SHOWN_LINES:]) or "it said nothing"
