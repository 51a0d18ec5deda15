"""Check that a KMS endpoint can be parsed, by the rules of Talos (talos internal/pkg/endpoint)."""

from __future__ import annotations

import re

from luksctl.hints import Final

_ENDPOINT: Final = (
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][^\s]*)?"
)


def endpoint_problem(endpoint: str) -> str | None:
    """Return why `endpoint` cannot be parsed, or None when it can: `[scheme://]host[:port]`, a path is ignored."""
    match = re.fullmatch(_ENDPOINT, endpoint)
    if match is None:
        return "not an endpoint"
    port = match["port"]
    if port is not None and not 1 <= int(port) <= 65535:
        return f"port {port} is outside 1-65535"
    return None
