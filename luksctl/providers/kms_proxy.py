"""Through which proxy a KMS is asked: https_proxy, http_proxy, all_proxy and no_proxy, as other programs take them."""

from __future__ import annotations

from collections.abc import Mapping

from luksctl.config.endpoint import Endpoint
from luksctl.errors import KmsReason, KmsUnavailable


def proxy_for(endpoint: Endpoint, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy for `endpoint`, None to ask it directly; KmsUnavailable for a proxy of another kind.

    Lower case wins over upper case. What is on this machine is never asked through a proxy.
    """
    proxy = _value(environment, "https_proxy" if endpoint.tls else "http_proxy") or _value(environment, "all_proxy")
    if not proxy or endpoint.loopback or _bypassed(endpoint, _value(environment, "no_proxy")):
        return None
    scheme, separator, rest = proxy.partition("://")
    if not separator:
        return f"http://{proxy}"
    if scheme.lower() != "http":  # gRPC would ask the KMS directly then, without a word
        raise KmsUnavailable(
            f"the proxy of the environment is of the kind {scheme}, and only http proxies are supported",
            reason=KmsReason.UNREACHABLE,
            hint="take the KMS out with no_proxy, or name the proxy as http://HOST:PORT, in a drop-in of the unit",
        )
    return f"http://{rest}"


def _value(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _bypassed(endpoint: Endpoint, listed: str) -> bool:
    """Tell whether no_proxy names the host: itself, a domain above it, with a port or without, or all of them."""
    host = endpoint.host.lower().strip("[]").rstrip(".")
    for entry in (part.strip().lower() for part in listed.split(",")):
        if entry == "*":
            return True
        name, _, port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        if port and port != str(endpoint.port):
            continue
        name = name.strip("[]").removeprefix("*").lstrip(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False
