"""Proxies of the environment: which one counts for a KMS, and that keys come through it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from luksctl.config.endpoint import read_endpoint
from luksctl.errors import KmsUnavailable
from luksctl.model.kms_wire import SEAL
from luksctl.model.meta import KmsAccess
from luksctl.providers.kms_connection import Call, KmsConnection
from luksctl.providers.kms_proxy import proxy_for
from luksctl.secret import Secret
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("endpoint", "environment", "expected"),
    [
        ("https://kms.example:4050", {}, None),
        ("https://kms.example:4050", {"https_proxy": PROXY}, PROXY),
        ("https://kms.example:4050", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://kms.example:4050", {"HTTPS_PROXY": "http://other", "https_proxy": PROXY}, PROXY),
        ("https://kms.example:4050", {"all_proxy": "proxy.example:3128"}, PROXY),
        ("https://kms.example:4050", {"all_proxy": "HTTP://proxy.example:3128"}, PROXY),
        ("https://kms.example:4050", {"http_proxy": PROXY}, None),
        ("grpc://kms.example:4050", {"http_proxy": PROXY}, PROXY),
        ("https://127.0.0.1:4050", {"https_proxy": PROXY}, None),
        ("https://kms.example:4050", {"https_proxy": PROXY, "no_proxy": "*"}, None),
        ("https://kms.example:4050", {"https_proxy": PROXY, "NO_PROXY": "a, .example"}, None),
        ("https://kms.example:4050", {"https_proxy": PROXY, "no_proxy": "example"}, None),
        ("https://kms.example:4050", {"https_proxy": PROXY, "no_proxy": "kms.example:4050"}, None),
        ("https://kms.example:4050", {"https_proxy": PROXY, "no_proxy": "kms.example:443,ample"}, PROXY),
        ("https://[2001:db8::1]:4050", {"https_proxy": PROXY, "no_proxy": "2001:db8::1"}, None),
    ],
)
def test_which_proxy_counts(endpoint: str, environment: dict[str, str], expected: str | None) -> None:
    """Lower case before upper case, by scheme, and not for what no_proxy names or is on this machine."""
    found = read_endpoint(endpoint)
    assert found is not None
    assert proxy_for(found, environment) == expected


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4a", "https"])
def test_a_proxy_of_another_kind_is_named(scheme: str) -> None:
    """It would be passed by without a word otherwise; nothing is sent, and the run says what to do."""
    access = KmsAccess(roots=(Authority().pem,))
    connection = KmsConnection(access, bundles=(), environment={"all_proxy": f"{scheme}://proxy.example:1080"})
    call = Call(SEAL, "https://kms.example", "4c4c4544-0042-3510-8051-b4c04f4e5731", b"x")
    ((_, failure),) = connection.answers(call)
    assert isinstance(failure, KmsUnavailable)
    assert f"of the kind {scheme}," in failure.cause
    assert "http://HOST:PORT" in (failure.hint or "")
    connection.close()


@contextmanager
def http_proxy(connects: list[str], target: int) -> Iterator[str]:
    """Serve one CONNECT, noted in `connects`, and lead it to a port on loopback."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            client, _ = listening.accept()
            with client, socket.create_connection(("127.0.0.1", target)) as server:
                connects.append(client.recv(4096).split(b"\r\n")[0].decode())
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        thread.join()
        listening.close()


def test_a_key_comes_through_the_proxy() -> None:
    """The proxy is told the name of the KMS, and TLS goes on behind it."""
    authority, connects = Authority(), list[str]()
    with (
        KmsServer(authority, pair=authority.issue("kms.example")) as server,
        http_proxy(connects, server.port) as proxy,
    ):
        environment = {"https_proxy": proxy}
        connection = KmsConnection(KmsAccess(roots=(authority.pem,)), bundles=(), environment=environment)
        endpoint = f"https://kms.example:{server.port}"
        _, answer = next(connection.answers(Call(SEAL, endpoint, "a node", b"a key")))
        connection.close()
    assert isinstance(answer, Secret), answer
    assert connects == [f"CONNECT kms.example:{server.port} HTTP/1.1"]
