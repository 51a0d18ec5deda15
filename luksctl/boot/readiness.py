"""Tell systemd that the work of a unit is done before its process has ended (sd_notify(3)).

A thread that asks a TPM which does not answer sits in the kernel, and keeps the process from ending until the kernel
gives the TPM up: minutes after another key opened the volume. Whoever waits for the volume need not wait for that.
"""

from __future__ import annotations

import os

# The module above it costs a boot milliseconds of import, and adds nothing to what is used here.
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from luksctl.hints import Final

_READY: Final = b"READY=1\n"


def tell_ready() -> None:
    """Say so where systemd waits for it, else do nothing; raises OSError."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    channel = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(_READY)
    finally:
        channel.close()
