"""What may wait, written to the list of nodes by a thread: pending nodes, and when nodes were last answered.

So an answer to a node that is not allowed costs the same whether it was known or not, and an answer to one that is
costs no write. A kill loses what was noted in the last moments: a pending node asks again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from luksctl.errors import LuksctlError
from luksctl.hints import Final, final
from luksctl.kms.nodes import NodeStore, Sighting

MOST_PENDING: Final = 10_000
_WAITING: Final = 10_000
_PENDING_EVERY_S: Final = 0.5
_SEEN_EVERY_S: Final = 30.0


@final
class Notebook:
    """Collects, and writes every half a minute, or half a second where a node is new."""

    def __init__(self, store: NodeStore, dropped: Callable[[int], None], most_pending: int = MOST_PENDING) -> None:
        self._store = store
        self._dropped = dropped
        self._most_pending = most_pending
        self._lock = threading.Lock()
        self._pending: dict[bytes, Sighting] = {}
        self._seen: dict[bytes, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notebook", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def pending(self, identity: bytes, sighting: Sighting) -> None:
        """Note a node that nobody has heard of."""
        with self._lock:
            if len(self._pending) < _WAITING:
                self._pending.setdefault(identity, sighting)
                return
        self._dropped(1)

    def seen(self, identity: bytes, at: int) -> None:
        """Note that a node was answered."""
        with self._lock:
            self._seen[identity] = at

    def flush(self) -> None:
        """Write what was noted. What the store does not take now is kept for the next time."""
        with self._lock:
            pending, self._pending = self._pending, {}
            seen, self._seen = self._seen, {}
        try:
            if pending:
                left_out = self._store.note(pending, self._most_pending)
                pending = {}
                self._dropped(left_out)
            if seen:
                self._store.seen(seen)
        except LuksctlError:  # busy or broken: requests say so, and count it
            with self._lock:
                self._pending = {**pending, **self._pending}
                self._seen = {**seen, **self._seen}

    def stop(self) -> None:
        """Write the rest, and end the thread."""
        self._ended.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        written = time.monotonic()
        while not self._ended.wait(_PENDING_EVERY_S):
            if self._pending or time.monotonic() - written >= _SEEN_EVERY_S:
                self.flush()
                written = time.monotonic()
