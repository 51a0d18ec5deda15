"""Speak QEMU's control protocol (QMP) on a unix socket."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from rig.errors import LostVM, RigError

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_TIMEOUT_S = 60.0


class Lines:
    """Exchange JSON objects, one a line, on a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = _connected(path, timeout_s)
        self._pending = b""
        self._ready: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        """Send one object; raises LostVM when nobody is there any more."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LostVM(f"QEMU closed its socket: {error}") from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next object, or None when none came in time; raises LostVM at the end of the stream.

        A line that is no JSON object is dropped: a guest that lost power in the middle of a line leaves half of it.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready:
            left_s = max(deadline - time.monotonic(), 0)
            readable, _, _ = select.select([self._socket], [], [], left_s)
            if not readable:
                return None
            self._read()
        return self._ready.pop(0)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read(self) -> None:
        try:
            chunk = self._socket.recv(1 << 16)
        except OSError as error:
            raise LostVM(f"QEMU closed its socket: {error}") from error
        if not chunk:
            raise LostVM("QEMU closed its socket")
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                self._ready.append(message)


def _connected(path: Path, timeout_s: float) -> socket.socket:
    deadline = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise LostVM(f"{path.name}: {error}") from error
            time.sleep(0.02)
        else:
            return connection


class Qmp:
    """Control one QEMU process."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._lines = Lines(path, timeout_s)
        self._lines.receive(timeout_s)  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a command and return what it returns; raises RigError when QEMU refuses it."""
        self._lines.send({"execute": command, "arguments": arguments} if arguments else {"execute": command})
        while True:
            message = self._lines.receive(ANSWER_TIMEOUT_S)
            if message is None:
                raise LostVM(f"QEMU did not answer {command} in {ANSWER_TIMEOUT_S:.0f} s")
            if "error" in message:
                raise RigError(f"QEMU refused {command}: {message['error'].get('desc')}")
            if "event" not in message:
                return message.get("return")

    def close(self) -> None:
        """Close the control socket; the guest goes on."""
        self._lines.close()
