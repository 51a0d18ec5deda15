"""Whatever is sent: a status, never a crash, and never what another node has sealed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luksctl.kms.admission import Outcome
from luksctl.model.kms_wire import SEAL, UNSEAL, encode_request
from tests.kms.serving import NODE, OTHER, Client, Serving, allow, serving

# The key of the other node: if it ever comes back to anybody else, the test fails.
TREASURE = b"the-key-of-the-other-node-1f9c.."
# How long something takes says nothing here: other tests run beside these.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_UUIDS = st.sampled_from([NODE, NODE.upper(), OTHER, "", "00000000-0000-0000-0000-000000000000"]) | st.text(max_size=60)


class Target:
    """A server, a client of it, and what the other node sealed there."""

    def __init__(self, running: Serving) -> None:
        self.running = running
        self.client: Client = running.client()
        self.sealed = self.client.seal(OTHER, TREASURE).granted


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Serve to two nodes, one of which has something to lose."""
    directory: Path = tmp_path_factory.mktemp("fuzz")
    with serving(directory) as running:
        allow(directory, NODE, OTHER)
        yield Target(running)


def _expect_refused_or_ours(target: Target, method: str, wire: bytes) -> None:
    reply = target.client.raw(method, wire)
    if reply.data is None:
        assert reply.code in REFUSALS, reply
        assert TREASURE.decode() not in reply.details
    else:
        assert TREASURE not in reply.data


@SETTINGS
@given(method=st.sampled_from([SEAL, UNSEAL]), wire=st.binary(max_size=300))
def test_bytes_that_mean_nothing(target: Target, method: str, wire: bytes) -> None:
    """Refused, whatever they happen to be."""
    _expect_refused_or_ours(target, method, wire)


@SETTINGS
@given(method=st.sampled_from([SEAL, UNSEAL]), uuid=_UUIDS, data=st.binary(max_size=200))
def test_requests_that_mean_something(target: Target, method: str, uuid: str, data: bytes) -> None:
    """Any UUID with any data."""
    _expect_refused_or_ours(target, method, encode_request(uuid, data))


@SETTINGS
@given(data=st.data())
def test_what_the_other_node_sealed_in_every_disguise(target: Target, data: st.DataObject) -> None:
    """Whole, cut, joined, and with bytes changed, but asked for by another node: nothing of it comes back."""
    sealed = bytearray(target.sealed)
    for position, value in data.draw(st.dictionaries(st.integers(0, len(sealed) - 1), st.integers(0, 255))).items():
        sealed[position] = value
    start, end = data.draw(st.integers(0, 3)), data.draw(st.integers(len(sealed) - 3, len(sealed)))
    uuid = data.draw(st.sampled_from([NODE, NODE.upper(), f"{OTHER} ", f" {OTHER}", f"{OTHER}\0", OTHER[:-1]]))
    _expect_refused_or_ours(target, UNSEAL, encode_request(uuid, bytes(sealed[start:end])))


@SETTINGS
@given(data=st.data())
def test_a_request_with_bytes_changed(target: Target, data: st.DataObject) -> None:
    """The message of the other node itself, damaged on the way: its key comes back for its UUID alone."""
    wire = bytearray(encode_request(OTHER, target.sealed))
    changes = data.draw(st.dictionaries(st.integers(0, len(wire) - 1), st.integers(0, 255), min_size=1, max_size=8))
    for position, value in changes.items():
        wire[position] = value
    reply = target.client.raw(UNSEAL, bytes(wire))
    if reply.data is not None:
        assert OTHER.encode() in bytes(wire).lower()
    else:
        assert reply.code in REFUSALS


def test_the_server_is_as_it_was(target: Target) -> None:
    """After all of that it answers both nodes, and no call ended as a bug."""
    assert target.client.unseal(target.sealed, OTHER).granted == TREASURE
    assert target.client.seal(NODE).data is not None
    counted = target.running.board.requests()
    assert sum(count for (_, outcome), count in counted.items() if outcome is Outcome.FAILED) == 0
