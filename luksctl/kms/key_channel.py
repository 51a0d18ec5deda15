"""How the first process hands the master key to a worker: at its start, and again when the key has a new version.

One message is one key as a text, whole or not at all. The kernel keeps a copy until it is taken.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from luksctl.errors import DeviceError
from luksctl.hints import Final, final
from luksctl.secret import Secret

_LONGEST_KEY_BYTES: Final = 64 * 1024


@final
class KeyChannel:
    """Two ends, made before the fork; each process closes the one that is the other's."""

    def __init__(self) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, key: Secret) -> None:
        """Hand over a key; DeviceError where the worker takes none: it is gone, or has not taken the ones before."""
        try:
            with key.view() as view:
                self._sender.sendmsg([view], [], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            raise DeviceError(f"a worker did not take the master key: {error.strerror}", operation="serve") from error

    def receive(self) -> Secret:
        """Return the key, once it is there; DeviceError where nobody will send one."""
        with Secret(_LONGEST_KEY_BYTES) as buffer, buffer.view() as view:
            count = self._receiver.recv_into(view)
            if count == 0:
                raise DeviceError("the master key did not come", operation="serve")
            return Secret.take(view[:count])

    def newest(self) -> Secret | None:
        """Return the key that was sent last, None where none was sent."""
        newest = None
        with Secret(_LONGEST_KEY_BYTES) as buffer, buffer.view() as view, suppress(BlockingIOError):
            while count := self._receiver.recv_into(view, flags=socket.MSG_DONTWAIT):
                newest = Secret.take(view[:count])
        return newest

    def close_sender(self) -> None:
        """Leave this end to the other process."""
        self._sender.close()

    def close_receiver(self) -> None:
        """Leave this end to the other process."""
        self._receiver.close()
