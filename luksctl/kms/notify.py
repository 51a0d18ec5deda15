"""What systemd is told of a service of Type=notify (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send `state`, such as READY=1, to whoever started us as a service; nothing where nobody did."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect("\0" + path[1:] if path.startswith("@") else path)
        sender.send(state.encode())
