"""Waiting until something happens to a block device.

Where udevd runs, its own events are awaited (its links in /dev are in place by then); elsewhere, as in a container, the
caller looks again four times a second. Nobody may wait here while holding the flock of a disk: udevd does not touch a
locked disk, so its events would not come.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from luksctl.devices.tree import Roots
from luksctl.hints import Final, Protocol

# An event can be lost (the socket's buffer overflows while the machine coldplugs): one look a second is taken anyway.
_LOOK_AGAIN_S: Final = 1.0
_POLL_S: Final = 0.25


class Events(Protocol):
    """A running subscription: what happens from its start on is not missed."""

    def wait(self, timeout_s: float) -> None:
        """Return when something may have changed, and after `timeout_s` at the latest."""


class _Monitor(Protocol):
    """The one method of pyudev.Monitor that is used here; pyudev has no types of its own."""

    def poll(self, timeout: float | None = None) -> object | None: ...


Listen = Callable[[], AbstractContextManager[Events]]


def udev_runs(roots: Roots) -> bool:
    """Tell whether udevd is there to send events."""
    return os.path.exists(f"{roots.run}/udev/control")


def udev_busy(roots: Roots) -> bool:
    """Tell whether udevd still has events to work on."""
    return os.path.exists(f"{roots.run}/udev/queue")


@contextmanager
def listen(roots: Roots) -> Iterator[Events]:
    """Subscribe to block events; start this before the first look, so that nothing between the two is missed."""
    monitor = _monitor() if udev_runs(roots) else None
    yield _Ticks() if monitor is None else _UdevEvents(monitor)


def wait_until(met: Callable[[], bool], timeout_s: float, listen: Listen) -> bool:
    """Wait until `met` says so, for `timeout_s` at most, and return what it said last."""
    if met():
        return True
    deadline = time.monotonic() + timeout_s
    with listen() as events:
        while not met():
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return False
            events.wait(remaining_s)
    return True


def _monitor() -> _Monitor | None:
    """Start a monitor of udevd's block events; None where libudev or the netlink socket is not to be had."""
    try:
        # 20 ms, and most boots find every device at once
        import pyudev  # type: ignore[import-untyped]  # noqa: PLC0415

        subscription = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        subscription.filter_by("block")
        subscription.start()
    except (ImportError, OSError):
        return None
    monitor: _Monitor = subscription
    return monitor


class _UdevEvents:
    def __init__(self, monitor: _Monitor) -> None:
        self._monitor = monitor

    def wait(self, timeout_s: float) -> None:
        try:
            event = self._monitor.poll(timeout=min(timeout_s, _LOOK_AGAIN_S))
            while event is not None:  # one look answers everything that came meanwhile
                event = self._monitor.poll(timeout=0)
        except OSError:  # the buffer overflowed: something happened, and the caller looks
            return


class _Ticks:
    def wait(self, timeout_s: float) -> None:
        time.sleep(min(timeout_s, _POLL_S))
