"""Where the server listens: HOST:PORT as text, and a port that is ours before the workers take it."""

from __future__ import annotations

import errno
import socket
import time
from ipaddress import ip_address
from urllib.parse import unquote

from luksctl.errors import Busy, DeviceError, UsageError
from luksctl.hints import Final
from luksctl.value import frozen

# As long as workers whose supervisor was killed may need to notice.
_BUSY_S: Final = 3.0
_PAUSE_S: Final = 0.1


@frozen
class Address:
    """An IP address and a port; port 0 is any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine reaches it."""
        return ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str, option: str) -> Address:
    """Return what HOST:PORT says; UsageError where it is none. Names are not looked up."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        number = int(port)
        return Address(str(ip_address(host or "::")), number if separator and 0 <= number < 65536 else int(""))
    except ValueError as error:
        raise UsageError(
            f"{option}: {text!r} is no address with a port", hint="such as 127.0.0.1:4050, or [::]:4050"
        ) from error


def address_of(peer: str) -> str:
    """Return the address of a peer as gRPC writes it: ipv4:1.2.3.4:5, ipv6:%5B::1%5D:5."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]").partition("%")[0] if family in {"ipv4", "ipv6"} else family


def reserve(address: Address) -> tuple[socket.socket, Address]:
    """Return a socket that keeps the port for processes that share it, and the address with its number.

    Busy where somebody else has it: two servers on one port would each get a part of the calls.
    """
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            probe, port = _bound(address, shared=False)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise DeviceError(f"{address}: {error.strerror}", operation="listen") from error
            if time.monotonic() >= deadline:
                raise Busy(f"{address}: somebody else listens there", operation="listen") from error
        time.sleep(_PAUSE_S)
    probe.close()
    kept, port = _bound(Address(address.host, port), shared=True)
    return kept, Address(address.host, port)


def listening(address: Address) -> tuple[socket.socket, Address]:
    """Return a socket that listens, and the address with its number; Busy or DeviceError where that cannot be."""
    try:
        made, port = _bound(address, shared=False)
    except OSError as error:
        kind = Busy if error.errno == errno.EADDRINUSE else DeviceError
        raise kind(f"{address}: {error.strerror}", operation="listen") from error
    made.listen(16)
    return made, Address(address.host, port)


def _bound(address: Address, *, shared: bool) -> tuple[socket.socket, int]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address.host, address.port))
    except OSError:
        made.close()
        raise
    return made, made.getsockname()[1]
