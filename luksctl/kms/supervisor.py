"""The first process of the server: keeps the port and the master key, starts workers anew that died, ends them all.

It loads neither gRPC nor a thread, so that it can fork at any time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

from luksctl.errors import DeviceError, LuksctlError
from luksctl.hints import Final, final
from luksctl.kms import status, worker
from luksctl.kms.address import Address, listening, reserve
from luksctl.kms.board import Board
from luksctl.kms.key_channel import KeyChannel
from luksctl.kms.limit import RateLimit
from luksctl.kms.plan import Plan
from luksctl.kms.process import Signals, fork
from luksctl.sd_notify import READY, STOPPING, notify
from luksctl.secret import Secret
from luksctl.value import replace

_STOPPING: Final = {signal.SIGTERM, signal.SIGINT}
_START_S: Final = 30.0
_POLL_S: Final = 0.05
_RESTART_S: Final = 1.0
# What an orderly end may take beyond the time that calls are given.
_END_MARGIN_S: Final = 5.0


def supervise(plan: Plan, key: Secret, renewed: Callable[[Secret], Secret | None], tell: Callable[[str], None]) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 1 where a worker had to be killed in the end.

    On SIGHUP `renewed` is given the key, and returns the one to go on with, None for no change.
    """
    with ExitStack() as kept:
        port, address = reserve(plan.address)
        kept.enter_context(closing(port))
        status_socket, status_address = listening(plan.status_address)
        kept.enter_context(closing(status_socket))
        lifeline, alive = os.pipe2(os.O_CLOEXEC)
        kept.callback(os.close, lifeline)
        kept.callback(os.close, alive)
        plan = replace(plan, address=address, status_address=status_address)
        crew = _Crew(plan, key, (lifeline, alive))
        kept.callback(crew.close)
        watching = partial(status.watch, plan, crew.board, status_socket, lifeline)
        return _run(crew, watching, partial(_renew, crew, renewed, tell), tell)


def _renew(crew: _Crew, renewed: Callable[[Secret], Secret | None], tell: Callable[[str], None]) -> None:
    """Give the workers a master key that was rotated; one that cannot be read is told, and changes nothing."""
    try:
        key = renewed(crew.key)
        if key is not None:
            crew.renew(key)
            tell("the master key was read again, and has a new version, or an imported key more")
    except (LuksctlError, OSError) as error:
        tell(f"{error}; the master key that was there before is used on")


def _run(crew: _Crew, watching: Callable[[], int], renew: Callable[[], None], tell: Callable[[str], None]) -> int:
    signals, plan = Signals(), crew.plan
    try:
        crew.watch(watching)
        for number in range(plan.options.workers):
            crew.start(number)
        crew.await_ready(signals)
        tell(_listening(plan.address, plan.status_address, plan.options.workers))
        notify(READY)
        crew.keep_up(signals, renew, tell)
    finally:
        notify(STOPPING)
        killed = crew.end(signals, plan.options.grace_s + _END_MARGIN_S)
    tell("stopped" if not killed else f"stopped; {killed} workers had to be killed")
    return 1 if killed else 0


def _listening(address: Address, status_address: Address, workers: int) -> str:
    return f"serving on {address} with {workers} workers; health and metrics on http://{status_address}"


@final
class _Crew:
    """The processes. Worker N has row N of the board; the watcher has none."""

    def __init__(self, plan: Plan, key: Secret, lifeline: tuple[int, int]) -> None:
        self.board = Board(plan.options.workers)
        self.plan = plan
        self.key = key
        self._limit = RateLimit(plan.options.rate, plan.options.burst)
        self._lifeline, self._alive = lifeline
        self._workers: dict[int, int] = {}
        self._channels: dict[int, KeyChannel] = {}
        self._waiting: dict[int, float] = {}
        self._watcher: int | None = None
        self._watching: Callable[[], int] | None = None

    def start(self, number: int) -> None:
        """Fork a worker, and hand it the key."""
        keys = KeyChannel()

        def run() -> int:
            keys.close_sender()
            for other in self._channels.values():
                other.close_sender()
            os.close(self._alive)
            return worker.work(self.plan, self.board.row(number), self._limit, keys, self._lifeline)

        self._workers[fork(run)] = number
        keys.close_receiver()
        self._channels[number] = keys
        keys.send(self.key)

    def renew(self, key: Secret) -> None:
        """Hand another key to all workers, which take it with the next SIGHUP, and to those that start later.

        A worker that does not take it is killed, and so starts anew, with it.
        """
        old, self.key = self.key, key
        old.close()
        for child, number in self._workers.items():
            try:
                self._channels[number].send(key)
            except DeviceError:
                os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        """Wipe the key."""
        self.key.close()

    def watch(self, watching: Callable[[], int]) -> None:
        """Fork the process that answers for health and metrics."""
        self._watching = watching

        def run() -> int:
            os.close(self._alive)
            return watching()

        self._watcher = fork(run)

    def await_ready(self, signals: Signals) -> None:
        """Return when every worker answers; DeviceError where one ended, which has said why, or takes for ever."""
        deadline = time.monotonic() + _START_S
        wanted = len(self._workers)
        while self.board.ready < wanted:
            signals.wait(_POLL_S)
            if self._reaped() or time.monotonic() > deadline:
                raise DeviceError("a worker did not start", operation="serve")

    def keep_up(self, signals: Signals, renew: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Return when it is time to end; until then start again what ended, and pass SIGHUP on, after `renew`."""
        while True:
            came, _ = signals.wait(_RESTART_S)
            if came & _STOPPING:
                return
            if signal.SIGHUP in came:
                renew()
                self._signal(signal.SIGHUP)
            for number in self._reaped():
                tell(f"worker {number} ended, and is started again")
                self._waiting[number] = time.monotonic() + _RESTART_S
            now = time.monotonic()
            for number in [number for number, due in self._waiting.items() if due <= now]:
                del self._waiting[number]
                self.start(number)
            if self._watcher is None and self._watching is not None:
                self.watch(self._watching)

    def end(self, signals: Signals, patience_s: float) -> int:
        """End every process in good order, kill what does not; return how many workers were killed."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while self._workers and time.monotonic() < deadline:
            signals.wait(_POLL_S)
            self._reaped()
        killed = list(self._workers)
        for child in killed:
            os.kill(child, signal.SIGKILL)
        if self._watcher is not None:
            os.kill(self._watcher, signal.SIGTERM)
        for child in (*killed, *(() if self._watcher is None else (self._watcher,))):
            os.waitpid(child, 0)
        return len(killed)

    def _signal(self, number: int) -> None:
        for child in self._workers:
            os.kill(child, number)

    def _reaped(self) -> list[int]:
        """Return the numbers of workers that ended since the last call."""
        ended = []
        for child in [*self._workers, *(() if self._watcher is None else (self._watcher,))]:
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                continue
            if child == self._watcher:
                self._watcher = None
            else:
                number = self._workers.pop(child)
                self._channels.pop(number).close_sender()
                self.board.row(number).set_ready(False)
                ended.append(number)
        return ended
