"""The audit log: one JSON object a line, {"time", "node", "peer", "verb", "outcome", "ms"}; never a UUID, never a key.

Each line is one write at the end of the file, so several processes share it, and nothing of it is lost when they are
killed. After the file was renamed, SIGHUP has it made anew.
"""

from __future__ import annotations

import json
import os
import threading
import time
from functools import lru_cache

from luksctl.errors import DeviceError
from luksctl.hints import Final, final
from luksctl.kms.admission import Outcome, Verb
from luksctl.model.kms import shown_hash

NAME: Final = "audit.log"
STANDARD_OUTPUT: Final = "-"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


@lru_cache(maxsize=8)
def _shown_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@final
class AuditLog:
    """Appends to the file at `path`; `-` is standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor = self._open()

    def write(
        self, verb: Verb, outcome: Outcome, *, node: bytes | None, peer: str, began: float, took_s: float
    ) -> None:
        """Append one line; DeviceError where it could not be written as a whole. `began` in seconds since 1970."""
        seconds, milliseconds = divmod(int(began * 1000), 1000)
        at = _shown_second(seconds)
        who = "null" if node is None else f'"{shown_hash(node)}"'
        # By hand, for it is a part of the cost of every call; only the peer may need to be quoted.
        content = (
            f'{{"time": "{at}.{milliseconds:03}+00:00", "node": {who}, "peer": {json.dumps(peer)}, '
            f'"verb": "{verb.value}", "outcome": "{outcome.value}", "ms": {took_s * 1000:.2f}}}\n'
        ).encode()
        try:
            with self._lock:
                written = os.write(self._descriptor, content)
        except OSError as error:
            raise self._failed(error.strerror or "failed") from error
        if written != len(content):
            raise self._failed("the line was cut")

    def reopen(self) -> None:
        """Open the path again, for it was renamed; DeviceError where that fails, and then the old file goes on."""
        if self._path == STANDARD_OUTPUT:
            return
        descriptor = self._open()
        with self._lock:
            old, self._descriptor = self._descriptor, descriptor
            os.close(old)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._descriptor)

    def _open(self) -> int:
        try:
            return os.dup(1) if self._path == STANDARD_OUTPUT else os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            raise self._failed(error.strerror or "cannot be opened") from error

    def _failed(self, why: str) -> DeviceError:
        return DeviceError(f"{self._path}: {why}", operation="the audit log")
