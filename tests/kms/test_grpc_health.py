"""Health as gRPC's own protocol asks for it, over the port of the nodes."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from luksctl.kms.sqlite_nodes import SqliteNodes
from tests.kms.serving import Serving, serving

CHECK = "/grpc.health.v1.Health/Check"


def _asked(running: Serving, wire: bytes) -> bytes | grpc.StatusCode | None:
    reply = running.client().raw(CHECK, wire)
    return reply.code if reply.data is None else reply.data


@pytest.mark.parametrize("service", ["", "sidero.kms.KMSService", "grpc.health.v1.Health"])
def test_a_server_that_answers_nodes_is_serving(tmp_path: Path, service: str) -> None:
    """As a whole and by name; the bytes are those of the protocol, and nothing is noted of who asks."""
    name = service.encode()
    with serving(tmp_path) as running:
        assert _asked(running, b"\x0a" + bytes([len(name)]) + name if name else b"") == b"\x08\x01"
        assert running.audit() == []
        running.notebook.flush()
        assert running.store.every() == ()


def test_a_list_that_cannot_be_read_is_not_serving(tmp_path: Path) -> None:
    """Whoever balances load sends nodes elsewhere then."""
    SqliteNodes(str(tmp_path), create=True).close()  # and so nothing of it is left in SQLite's log
    with serving(tmp_path) as running:
        (tmp_path / "nodes.db").write_bytes(b"damaged" * 10000)
        assert _asked(running, b"") == b"\x08\x02"


def test_who_asks_too_often_is_told_so(tmp_path: Path) -> None:
    """Each look reads the list, so it counts as any other request of that peer."""
    with serving(tmp_path, rate=0.001, burst=2) as running:
        assert [_asked(running, b"") for _ in range(3)] == [b"\x08\x01"] * 2 + [grpc.StatusCode.RESOURCE_EXHAUSTED]


def test_what_is_not_there_is_told_as_the_protocol_says(tmp_path: Path) -> None:
    """Another service, no message, and Watch, which is not implemented."""
    with serving(tmp_path) as running:
        assert _asked(running, b"\x0a\x05other") is grpc.StatusCode.NOT_FOUND
        assert _asked(running, b"\x0a\x05cut") is grpc.StatusCode.INVALID_ARGUMENT
        watched = running.client().raw("/grpc.health.v1.Health/Watch", b"")
        assert watched.code is grpc.StatusCode.UNIMPLEMENTED
