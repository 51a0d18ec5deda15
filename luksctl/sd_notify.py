"""What systemd is told of a service of Type=notify (sd_notify(3)), whose start it waits for."""

from __future__ import annotations

import os

# The module above it costs a boot milliseconds of import, and adds nothing to what is used here.
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from luksctl.hints import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"


def notify(state: str) -> None:
    """Send `state` to whoever started us as a service, nothing where nobody did; raises OSError."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    channel = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        # An abstract address is written with an @ in front.
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(state.encode())
    finally:
        channel.close()
