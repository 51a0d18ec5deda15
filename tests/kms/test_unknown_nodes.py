"""Who is not allowed gets nothing, learns nothing, and leaves a trace."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest

from luksctl.errors import DeviceError
from luksctl.kms.admission import Outcome
from luksctl.kms.identity import identity_of
from luksctl.model.kms import Enrol, Enrolment, KnownNode, NodeState
from tests.kms.serving import KEY, NODE, OTHER, Serving, allow, serving

THIRD = "00112233-4455-4677-8899-aabbccddeeff"
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "this node may not use this KMS")


def _state(running: Serving, uuid: str = NODE) -> NodeState | None:
    known = running.store.find(identity_of(uuid))
    return None if known is None else known.state


def _sealed(running: Serving, uuid: str = NODE) -> bytes:
    """Return something that was sealed for the node while it was allowed."""
    allow(running.directory, uuid)
    return running.client().seal(uuid).granted


def test_unknown_pending_and_revoked_get_the_same_refusal(tmp_path: Path) -> None:
    """No state of the list can be told from another, for either call, whatever the data is."""
    with serving(tmp_path) as running:
        sealed = _sealed(running)
        allow(tmp_path, NODE, state=NodeState.REVOKED)
        allow(tmp_path, OTHER, state=NodeState.PENDING)
        client = running.client()
        for uuid in (NODE, OTHER, THIRD):
            for reply in (
                client.seal(uuid),
                client.unseal(sealed, uuid),
                client.unseal(b"x" * 69, uuid),
                client.seal(uuid, b""),
            ):
                assert reply.data is None
                assert (reply.code, reply.details) == DENIED
        assert set(running.outcomes()[1:]) == {"revoked", "pending", "unknown"}


def test_an_unknown_node_is_noted_and_waits(tmp_path: Path) -> None:
    """Asking makes it pending, once, with where it asked from; allowing it is the operator's."""
    with serving(tmp_path) as running:
        client = running.client()
        for _ in range(3):
            assert client.seal().code is grpc.StatusCode.PERMISSION_DENIED
        running.notebook.flush()
        (node,) = running.store.every()
        assert (node.state, node.peer, node.identity) == (NodeState.PENDING, "127.0.0.1", identity_of(NODE))
        assert client.seal().code is grpc.StatusCode.PERMISSION_DENIED
        allow(tmp_path, node.shown)
        assert client.seal().data is not None


def test_closed_notes_nobody(tmp_path: Path) -> None:
    """With --enroll closed the list stays as the operator wrote it."""
    with serving(tmp_path, enrolment=Enrolment(Enrol.CLOSED)) as running:
        assert running.client().seal().code is grpc.StatusCode.PERMISSION_DENIED
        running.notebook.flush()
        assert running.store.every() == ()


def test_a_revoked_node_is_refused_with_its_next_request(tmp_path: Path) -> None:
    """On the same connection; and allowed again, what it had sealed opens."""
    with serving(tmp_path) as running:
        sealed = _sealed(running)
        client = running.client()
        assert client.unseal(sealed).granted == KEY
        allow(tmp_path, NODE, state=NodeState.REVOKED)
        assert client.unseal(sealed).code is grpc.StatusCode.PERMISSION_DENIED
        assert client.seal().code is grpc.StatusCode.PERMISSION_DENIED
        allow(tmp_path, NODE)
        assert client.unseal(sealed).granted == KEY


def test_who_is_refused_costs_a_look_into_the_list_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or not, asked for a moment ago or never: how long a refusal takes tells nothing."""
    with serving(tmp_path) as running:
        sealed = _sealed(running)
        allow(tmp_path, OTHER, state=NodeState.REVOKED)
        client = running.client()
        assert client.unseal(sealed).granted == KEY
        looks: list[bytes] = []
        find = running.store.find

        def counted(identity: bytes) -> KnownNode | None:
            looks.append(identity)
            return find(identity)

        monkeypatch.setattr(running.store, "find", counted)
        assert client.unseal(sealed).granted == KEY
        assert looks == []
        for uuid in (OTHER, THIRD, OTHER, THIRD):
            assert client.unseal(sealed, uuid).code is grpc.StatusCode.PERMISSION_DENIED
        assert looks == [identity_of(uuid) for uuid in (OTHER, THIRD, OTHER, THIRD)]


def _auto(network: str, seconds: float) -> Enrolment:
    return Enrolment(Enrol.AUTO, (network,), time.time() + seconds)


def test_auto_allows_within_its_bounds(tmp_path: Path) -> None:
    """A node of the network that seals in time is in the list, for good, before it has its answer."""
    with serving(tmp_path, enrolment=_auto("127.0.0.0/8", 3600)) as running:
        client = running.client()
        sealed = client.seal().granted
        assert _state(running) is NodeState.ALLOWED
        assert client.unseal(sealed).granted == KEY
        assert running.outcomes() == ["enrolled", "ok"]


@pytest.mark.parametrize(
    "enrolment", [_auto("10.0.0.0/8", 3600), _auto("127.0.0.0/8", -1), _auto("::/0", 3600)], ids=["net", "time", "IPv6"]
)
def test_auto_allows_nobody_outside_its_bounds(tmp_path: Path, enrolment: Enrolment) -> None:
    """From elsewhere, or too late, a node is pending, as without auto."""
    with serving(tmp_path, enrolment=enrolment) as running:
        assert running.client().seal().code is grpc.StatusCode.PERMISSION_DENIED
        running.notebook.flush()
        assert _state(running) is NodeState.PENDING


def test_auto_allows_who_was_pending_and_never_who_was_revoked(tmp_path: Path) -> None:
    """What the operator took back stays so."""
    with serving(tmp_path, enrolment=_auto("127.0.0.0/8", 3600)) as running:
        allow(tmp_path, NODE, state=NodeState.PENDING)
        allow(tmp_path, OTHER, state=NodeState.REVOKED)
        client = running.client()
        assert client.seal(NODE).data is not None
        assert client.seal(OTHER).code is grpc.StatusCode.PERMISSION_DENIED
        assert _state(running, OTHER) is NodeState.REVOKED


def test_unsealing_enrols_nobody(tmp_path: Path) -> None:
    """A node that nobody knows has nothing to unseal: whoever comes with something is looked at first."""
    with serving(tmp_path, enrolment=_auto("127.0.0.0/8", 3600)) as running:
        assert running.client().unseal(b"x" * 69).code is grpc.StatusCode.PERMISSION_DENIED
        running.notebook.flush()
        assert _state(running) is NodeState.PENDING


def test_another_nodes_data_does_not_open(tmp_path: Path) -> None:
    """Both are allowed, and neither gets what the other sealed; the same node in upper case does."""
    with serving(tmp_path) as running:
        sealed = _sealed(running)
        allow(tmp_path, OTHER)
        client = running.client()
        assert client.unseal(sealed, OTHER).code is grpc.StatusCode.INVALID_ARGUMENT
        assert client.unseal(sealed, NODE.upper()).granted == KEY


def test_all_data_that_does_not_open_looks_the_same(tmp_path: Path) -> None:
    """Cut, changed, of another node, of an unknown version, empty: one status, one text."""
    with serving(tmp_path) as running:
        sealed = _sealed(running)
        foreign = _sealed(running, OTHER)
        client = running.client()
        wrong = (b"", sealed[:-1], sealed + b"x", sealed[:-1] + bytes([sealed[-1] ^ 1]), foreign)
        unknown_version = sealed[:1] + (7).to_bytes(4, "big") + sealed[5:]
        replies = [client.unseal(data) for data in (*wrong, unknown_version, b"\x02" + sealed[1:])]
        assert {(reply.code, reply.details) for reply in replies} == {
            (grpc.StatusCode.INVALID_ARGUMENT, "incorrect data")
        }
        assert set(running.outcomes()[2:]) == {"not-sealed-here"}


@pytest.mark.parametrize("uuid", ["", "x", NODE[:-1], NODE + "0", "{" + NODE + "}", "0" * 36, NODE.replace("-", "")])
def test_what_is_no_uuid_is_malformed(tmp_path: Path, uuid: str) -> None:
    """Nothing of it reaches the list."""
    with serving(tmp_path) as running:
        assert running.client().seal(uuid).code is grpc.StatusCode.INVALID_ARGUMENT
        running.notebook.flush()
        assert running.store.every() == ()
        assert [line["node"] for line in running.audit()] == [None]


def test_a_uuid_that_no_vendor_set_names_nobody(tmp_path: Path) -> None:
    """Many machines have the same: allowing one would allow them all."""
    with serving(tmp_path) as running:
        for uuid in ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-fffffffffff0"):
            assert running.client().seal(uuid).code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_peer_that_asks_too_often_is_told_so(tmp_path: Path) -> None:
    """After the burst it is refused, before anything is looked up; each is counted, and one line fills no disk."""
    with serving(tmp_path, rate=0.001, burst=3) as running:
        allow(tmp_path, NODE)
        client = running.client()
        codes = [client.seal().code for _ in range(5)]
        assert codes == [None] * 3 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
        assert running.outcomes()[3:] == ["limited"]
        assert sum(n for (_, outcome), n in running.board.requests().items() if outcome is Outcome.LIMITED) == 2


def test_pending_nodes_do_not_fill_the_disk(tmp_path: Path) -> None:
    """Past the bound, unknown nodes are refused as ever, counted, and not kept."""
    with serving(tmp_path) as running:
        running.notebook._most_pending = 2
        client = running.client()
        for number in range(5):
            client.seal(f"{number:08x}-1234-4677-8899-aabbccddeeff")
        running.notebook.flush()
        assert running.store.counts()[NodeState.PENDING] == 2
        assert running.board.dropped_total == 3


def test_why_nothing_can_be_answered_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The caller hears "try again later", the operator the cause, and not once for each call."""

    def broken(_: bytes) -> None:
        raise DeviceError("nodes.db: disk I/O error")

    with serving(tmp_path) as running:
        monkeypatch.setattr(running.store, "find", broken)
        client = running.client()
        assert [client.seal().code for _ in range(3)] == [grpc.StatusCode.UNAVAILABLE] * 3
        assert running.outcomes() == ["unavailable"] * 3
    assert capfd.readouterr().err.count("luksctl kms: nodes.db: disk I/O error") == 1
