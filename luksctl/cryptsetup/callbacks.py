"""What the library calls while it works: log lines and progress.

1. Each handle has one CallState; its `userdata` is what C hands back to the callbacks.
2. `begin` clears it before a call.
3. A callback finds its CallState by the userdata. Without one (no handle yet) log lines go to the thread's own list.
4. Nothing is thrown through C: an exception, KeyboardInterrupt too, is kept in `error`, and progress answers 1, at
   which the library stops in a clean state. Python runs signal handlers inside callbacks, so Ctrl-C arrives there.
5. After the call, `finish` raises what was kept: only then is it known that C has let go.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from types import TracebackType

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.failure import Log
from luksctl.hints import TYPE_CHECKING, Final
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import Chars, Handle

_MAX_LINES: Final = 100


@frozen
class Progress:
    """How far a wipe or a re-encryption is, in bytes of the device."""

    done_bytes: int
    total_bytes: int


ProgressCallback = Callable[[Progress], None]


class CallState:
    """What one handle's running call said, and what its callbacks raised."""

    __slots__ = ("__weakref__", "error", "lines", "progress", "userdata")

    def __init__(self, progress: ProgressCallback | None = None) -> None:
        self.lines: list[tuple[int, str]] = []
        self.progress = progress
        self.error: BaseException | None = None
        self.userdata: Handle = ffi.new_handle(self)

    def begin(self) -> None:
        """Forget the previous call."""
        self.lines.clear()
        self.error = None

    def finish(self) -> None:
        """Raise what a callback raised during the call, if any did."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def add_line(self, level: int, line: str) -> None:
        """Keep one log line; the first hundred count."""
        if line and len(self.lines) < _MAX_LINES:
            self.lines.append((level, line))

    def log(self) -> Log:
        """Return what the call logged."""
        errors = (line for level, line in self.lines if level == lib.CRYPT_LOG_ERROR)
        return Log(tuple(line for _, line in self.lines), next(errors, None))


# One for each thread that ever made such a call, by the thread's number: whoever has the number later goes on with it.
# `threading` itself would cost every start half a millisecond.
_STATES: Final[dict[int, CallState]] = {}


def thread_state() -> CallState:
    """Return the CallState of calls without a handle in this thread."""
    number = get_ident()
    state = _STATES.get(number)
    if state is None:
        state = _STATES[number] = CallState()
    return state


def _state_of(userdata: Handle) -> CallState:
    if not userdata:
        return thread_state()
    state = ffi.from_handle(userdata)
    assert isinstance(state, CallState)
    return state


def _keep_error(_kind: type[BaseException], value: BaseException, trace: object) -> None:
    userdata = trace.tb_frame.f_locals["usrptr"] if isinstance(trace, TracebackType) else None
    state = thread_state() if userdata is None else _state_of(userdata)
    state.error = value


@ffi.def_extern(onerror=_keep_error)
def luksctl_on_log(level: int, msg: Chars, usrptr: Handle) -> None:
    """Keep one log line of the handle; debug lines are not asked for."""
    if level >= lib.CRYPT_LOG_NORMAL:
        _state_of(usrptr).add_line(level, ffi.string(msg).decode(errors="replace").strip())


@ffi.def_extern(error=1, onerror=_keep_error)
def luksctl_on_progress(size: int, offset: int, usrptr: Handle) -> int:
    """Tell the handle's progress callback; any exception makes the library stop."""
    state = _state_of(usrptr)
    if state.error is not None:
        return 1
    if state.progress is not None:
        state.progress(Progress(done_bytes=offset, total_bytes=size))
    return 0
