"""Starting the few programs that nobody wrote a library for: argument lists, small environment, no child left over.

Who is told to end (SIGTERM, SIGHUP) while a program runs kills that first, and waits for it: it would go on writing to
a device that nobody holds any more. What was announced is done again by the next run or boot.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from luksctl.errors import DeviceError
from luksctl.hints import TYPE_CHECKING, Final, Self
from luksctl.value import frozen

if TYPE_CHECKING:
    import subprocess

SEARCH_PATH: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SHOWN_LINES: Final = 5
_PROGRESS_AFTER_S: Final = 2.0
_PROGRESS_EVERY_S: Final = 1.0
# A process that waits for a disk ends only when the disk has answered, killed or not.
_DYING_S: Final = 10.0
# Those that did not end in time; nobody waits for them, and none of them is forgotten as if it were gone.
_UNDEAD: Final[list[subprocess.Popen[str]]] = []

_Handler = Callable[[int, FrameType | None], object] | int | None

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
    DeviceError with the last lines it wrote when it fails or takes longer than `timeout_s`. Whatever leaves this
    function, and whichever of SIGINT, SIGTERM and SIGHUP ends us in it, the program has ended by then. One that has not
    ten seconds after it was killed, because its disk does not answer, is left: DeviceError. It begins no new write.
    """
    import subprocess  # noqa: PLC0415  # a converged boot starts no program

    name = os.path.basename(argv[0])
    environment = {"PATH": ":".join(SEARCH_PATH), "LC_ALL": "C.UTF-8"}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    source = nothing if stdin is None else pipe
    with _Signals(name) as signals:
        process = subprocess.Popen(
            argv, stdin=source, stdout=pipe, stderr=pipe, env=environment, cwd="/", text=True, errors="replace"
        )
        try:
            signals.raise_from_now_on()
            output, complaints = _communicate(process, stdin, timeout_s, progress)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"{name} had not ended after {timeout_s:g} s and was stopped", operation=name) from error
        finally:
            signals.raises = False
            _end(process, name)
    if process.returncode not in good:
        raise DeviceError(f"{_ending(process.returncode)}: {_last_lines(complaints or output)}", operation=name)
    return output


class _Signals:
    """While a program runs, SIGTERM and SIGHUP end us only after it; whoever ignores one of them goes on ignoring it.

    With `raises` a signal raises at once; before and after that it is noted.
    """

    def __init__(self, name: str) -> None:
        self.raises = False
        self._name = name
        self._came: int | None = None
        self._before: dict[int, _Handler] = {}

    def __enter__(self) -> Self:
        # Elsewhere nobody may ask for signals, and none arrives.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._told)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._came is not None:
            os.kill(os.getpid(), self._came)  # as if it came now: the program has ended

    def raise_from_now_on(self) -> None:
        """Have a signal raise from now on, one that came already too."""
        self.raises = True
        if self._came is not None:
            raise self._error()

    def _told(self, number: int, _frame: FrameType | None) -> None:
        self._came = number
        if self.raises:
            self.raises = False
            raise self._error()

    def _error(self) -> DeviceError:
        return DeviceError(f"{self._name} was stopped: somebody ended luksctl", operation=self._name)


def _end(process: subprocess.Popen[str], name: str) -> None:
    """Kill it unless it has ended, wait for that, and close its pipes, which its own children may keep open."""
    from subprocess import TimeoutExpired  # noqa: PLC0415  # as in run

    if process.poll() is None:
        process.kill()
    try:
        process.wait(_DYING_S)
    except TimeoutExpired as error:
        _UNDEAD.append(process)
        cause = f"{name} was killed, and has not ended {_DYING_S:g} s later: its disk does not answer"
        raise DeviceError(cause, operation=name, hint="dmesg") from error
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what it never read
                    pipe.close()


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
