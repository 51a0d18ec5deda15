"""A deadline for any provider: the caller waits so long and no longer, and a key that comes too late is wiped.

What a C library waits for cannot be interrupted, so it waits in a thread of its own that is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Condition, Thread

from luksctl.errors import ProviderUnavailable
from luksctl.hints import Any, Final, TypeVar, final
from luksctl.model.config import ConfiguredKey
from luksctl.model.ports import KeyProvider, MadeKey
from luksctl.secret import Secret

DEFAULT_TIMEOUT_S: Final = 30.0
# After this much silence, and then each time again, whoever watches is told.
_TELL_EVERY_S: Final = 5.0
# How long a call waits for one that was too late before it.
_AGAIN_S: Final = 1.0

Result = TypeVar("Result")


@final
class Deadline:
    """Let `what` ("the TPM") answer within `timeout_s`, one call at a time; `tell` says meanwhile that it is slow.

    A call that does not answer in time raises what `late` makes of the cause. Until it ends whoever hangs is asked
    nothing more, and the next calls raise after a second: a boot asks for each slot, and has other keys to go on with.
    """

    def __init__(
        self,
        what: str,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        tell: Callable[[str], None] | None = None,
        late: Callable[[str], ProviderUnavailable] = ProviderUnavailable,
    ) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._tell = tell
        self._late = late
        self._running: _Call | None = None

    def run(self, work: Callable[[], Result], discard: Callable[[Result], None]) -> Result:
        """Return what `work` returns, or raise what it raises; `discard` is given a result that came too late."""
        until = time.monotonic() + self._timeout_s
        before = self._running
        if before is not None and not self._waited(before, min(until, time.monotonic() + _AGAIN_S)):
            raise self._late(f"{self._what} did not answer in {self._timeout_s:g} s, nor since")
        call = _Call(work, discard)
        self._running = call
        try:
            if not self._waited(call, until):
                raise self._too_late()
            result: Result = call.take()
            return result
        finally:
            call.abandon()
            if call.ended:
                self._running = None

    def _waited(self, call: _Call, until: float) -> bool:
        """Wait for `call` to end, telling about it; False where `until` came first."""
        started = time.monotonic()
        while not call.wait(max(0.0, min(_TELL_EVERY_S, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
            if self._tell is not None:
                self._tell(f"{self._what} has not answered for {time.monotonic() - started:.0f} s")
        return True

    def _too_late(self) -> ProviderUnavailable:
        return self._late(f"{self._what} did not answer in {self._timeout_s:g} s")


@final
class PunctualProvider:
    """`inner` under `deadline`: `make`, `recover` and each further candidate have the whole time."""

    def __init__(self, inner: KeyProvider, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Make the key, in time."""
        return self._deadline.run(lambda: self._inner.make(volume, key), lambda made: made.key.close())

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield the candidates of `inner`, each in time."""
        # One at a time, so nobody is kept waiting for a candidate that is not needed.
        candidates = self._deadline.run(lambda: iter(self._inner.recover(volume, key, token)), lambda _: None)
        while True:
            candidate = self._deadline.run(lambda: next(candidates, None), _close)
            if candidate is None:
                return
            yield candidate

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
        """Say what `inner` knows."""
        return self._deadline.run(lambda: self._inner.explain_rejection(volume, key), lambda _: None)


def _close(candidate: Secret | None) -> None:
    if candidate is not None:
        candidate.close()


@final
class _Call:
    """One piece of work in its own thread; its result goes to whoever takes it, or is discarded, and never both."""

    def __init__(self, work: Callable[[], Any], discard: Callable[[Any], None]) -> None:
        self._work = work
        self._discard = discard
        self._changed = Condition()
        self._abandoned = False
        self._error: BaseException | None = None
        self._results: list[Any] = []
        self.ended = False
        # A daemon: what hangs in C must not keep the process from ending.
        Thread(target=self._run, daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the work; tell whether it came."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ended, timeout_s)

    def take(self) -> Any:
        """Return the result of work that ended, or raise its error."""
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._results.pop()

    def abandon(self) -> None:
        """Have a result that nobody took discarded: now, or by the thread when it comes."""
        with self._changed:
            self._abandoned = True
            self._drop()

    def _run(self) -> None:
        error: BaseException | None = None
        results: list[Any] = []
        try:
            results.append(self._work())
        except BaseException as raised:  # noqa: BLE001  # raised again in the thread that asked
            error = raised
        with self._changed:
            self._error, self._results = error, results
            if self._abandoned:
                self._drop()
            self.ended = True
            self._changed.notify_all()

    def _drop(self) -> None:
        while self._results:
            self._discard(self._results.pop())
