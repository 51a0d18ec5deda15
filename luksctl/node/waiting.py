"""Deadlines and retries: how long a boot waits for what may still come, and no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from luksctl.errors import Busy, ProviderUnavailable
from luksctl.hints import TypeVar
from luksctl.model.config import Timeouts
from luksctl.node.files import read_file, replace_file
from luksctl.node.node import Node
from luksctl.reconcile.keys import needs_network

Result = TypeVar("Result")

# What may mend itself while we wait; everything else ends the wait at once. Devices were waited for before.
TRANSIENT = (ProviderUnavailable, Busy)


class Deadline:
    """A point on the clock of this boot."""

    def __init__(self, node: Node, end_s: float) -> None:
        self._node = node
        self._end_s = end_s

    @property
    def left_s(self) -> float:
        """Return the seconds left, zero when it has passed."""
        return max(0.0, self._end_s - self._node.system.monotonic_s())


def boot_deadline(node: Node) -> Deadline:
    """Return the deadline of this boot's hook, which all its stages share: the first one to ask starts the clock."""
    path = f"{node.paths.run_dir}/boot-started"
    started = _kept(path)
    if started is None:
        started = node.system.monotonic_s()
        replace_file(path, f"{started:.3f}\n".encode(), mode=0o644)
    return Deadline(node, started + node.settings.timeouts.hook_s)


def _kept(path: str) -> float | None:
    """Return what a stage noted before us; None where there is nothing that can be understood."""
    try:
        return float(read_file(path) or b"")
    except ValueError:
        return None


def back_off(timeouts: Timeouts) -> Iterator[float]:
    """Yield waiting times in seconds: doubling from retry_min_s to retry_max_s, each with up to a quarter of jitter."""
    import random  # noqa: PLC0415  # most boots never wait

    wait_s = timeouts.retry_min_s
    while True:
        yield wait_s * random.uniform(0.75, 1.0)  # noqa: S311  # jitter, not a secret
        wait_s = min(wait_s * 2, timeouts.retry_max_s)


def until(node: Node, deadline: Deadline, attempt: Callable[[], Result]) -> Result:
    """Return what `attempt` returns, trying again after transient errors until `deadline`; then the last error."""
    waits = back_off(node.settings.timeouts)
    while True:
        try:
            return attempt()
        except TRANSIENT as error:
            if deadline.left_s <= 0 or needs_network(error):
                raise
        node.system.sleep(min(next(waits), deadline.left_s))
