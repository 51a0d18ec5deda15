"""Processes of the server: forked, told apart by pipes that end with their parent, and woken by signals."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable

from luksctl.hints import Final, final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_FAILED: Final = 1


@final
class Signals:
    """Waits for SIGTERM, SIGINT, SIGHUP, SIGCHLD, and for a pipe to end; one for each process."""

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _noted)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def wait(self, timeout_s: float | None, lifeline: int | None = None) -> tuple[set[int], bool]:
        """Return which signals came, and whether the other end of `lifeline` is gone."""
        watched = [self._read] if lifeline is None else [self._read, lifeline]
        ready, _, _ = select.select(watched, [], [], timeout_s)
        came = set(os.read(self._read, 1024)) if self._read in ready else set()
        return came, lifeline in ready


def fork(work: Callable[[], int]) -> int:
    """Run `work` in a child, which ends with its exit code, and return the child's process id.

    Signals wait until the child has its own Signals, or has set them otherwise.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child
    code = _FAILED
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001  # the outermost place of this process
        sys.stderr.write(f"luksctl kms: {_told(error)}\n")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _told(error: BaseException) -> str:
    """Return what may be said of an error: the text of one that is not ours may hold anything."""
    from luksctl.errors import LuksctlError  # noqa: PLC0415  # only where something failed

    if isinstance(error, LuksctlError):
        return str(error)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    return f"a bug: {type(error).__name__}{place}"


def _noted(number: int, frame: object) -> None:
    """Do nothing: the number is in the pipe."""
