"""Read a KMS endpoint by the rules of Talos (talos internal/pkg/endpoint)."""

from __future__ import annotations

import re

from luksctl.hints import Final
from luksctl.value import frozen

_ENDPOINT: Final = (
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][^\s]*)?"
)
_PLAIN: Final = "grpc"
_DEFAULT_PORT: Final = 443


def endpoint_problem(endpoint: str) -> str | None:
    """Return why `endpoint` cannot be parsed, or None when it can: `[scheme://]host[:port]`, a path is ignored."""
    match = re.fullmatch(_ENDPOINT, endpoint)
    if match is None:
        return "not an endpoint"
    port = match["port"]
    if port is not None and not 1 <= int(port) <= 65535:
        return f"port {port} is outside 1-65535"
    return None


@frozen
class Endpoint:
    """Where a KMS listens; without `tls` everybody on the way reads the keys."""

    host: str
    port: int
    tls: bool

    @property
    def loopback(self) -> bool:
        """Tell whether what is sent there stays on this machine."""
        host = self.host.lower().rstrip(".")
        return host in {"localhost", "[::1]"} or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def read_endpoint(endpoint: str) -> Endpoint | None:
    """Return what `endpoint` means, None where it cannot be parsed.

    Plain text for the scheme grpc alone, and where there is none; 443 where no port is named, as gRPC takes it.
    """
    match = re.fullmatch(_ENDPOINT, endpoint)
    if match is None or endpoint_problem(endpoint) is not None:
        return None
    return Endpoint(match["host"], int(match["port"] or _DEFAULT_PORT), (match["scheme"] or _PLAIN) != _PLAIN)
