"""HOST:PORT as text, and ports that are somebody's."""

from __future__ import annotations

import socket

import pytest

from luksctl.errors import Busy, UsageError
from luksctl.kms import address
from luksctl.kms.address import Address, address_of, listening, read_address, reserve


@pytest.mark.parametrize(
    ("text", "host", "port", "shown", "loopback"),
    [
        ("127.0.0.1:4050", "127.0.0.1", 4050, "127.0.0.1:4050", True),
        ("[::]:4050", "::", 4050, "[::]:4050", False),
        ("[::1]:0", "::1", 0, "[::1]:0", True),
        (":4050", "::", 4050, "[::]:4050", False),
        ("0.0.0.0:65535", "0.0.0.0", 65535, "0.0.0.0:65535", False),  # noqa: S104  # nothing is bound
    ],
)
def test_addresses_are_read(text: str, host: str, port: int, shown: str, loopback: bool) -> None:  # noqa: FBT001
    """And shown as they are typed."""
    found = read_address(text, "--listen")
    assert (found, str(found), found.is_loopback) == (Address(host, port), shown, loopback)


@pytest.mark.parametrize(
    "text", ["", "4050", "localhost:4050", "127.0.0.1", "127.0.0.1:", "1.2.3.4:65536", "1.2.3.4:-1"]
)
def test_what_is_no_address_names_its_option(text: str) -> None:
    """With an example."""
    with pytest.raises(UsageError, match="--listen"):
        read_address(text, "--listen")


def test_a_port_is_kept_for_those_that_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that listens on it shares it, and nobody else does; afterwards it is free."""
    monkeypatch.setattr(address, "_BUSY_S", 0.0)
    kept, found = reserve(Address("127.0.0.1", 0))
    with socket.socket() as worker:
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind((found.host, found.port))
        worker.listen()
        with pytest.raises(Busy):
            reserve(found)
        with pytest.raises(Busy):
            listening(found)
    kept.close()
    again, _ = listening(found)
    again.close()


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("ipv4:10.0.0.1:55555", "10.0.0.1"),
        ("ipv6:%5B::1%5D:55555", "::1"),
        ("ipv6:[fd00::1]:5", "fd00::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5", "fe80::1"),
        ("ipv6:[::ffff:10.0.0.1]:5", "::ffff:10.0.0.1"),
        ("unix:/run/x", "unix"),
        ("", ""),
    ],
)
def test_peers_are_read_as_grpc_writes_them(peer: str, shown: str) -> None:
    """The address without port, brackets and interface."""
    assert address_of(peer) == shown
