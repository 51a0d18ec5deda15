"""The kms provider against a KMS that behaves, and one that does not: over TLS on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable, TokenInvalid
from luksctl.model.config import ConfiguredKey, KmsKey
from luksctl.model.kms_wire import SEAL, UNSEAL, encode_response
from luksctl.model.meta import KmsAccess
from luksctl.model.ports import MadeKey
from luksctl.providers.kms import KmsProvider
from luksctl.providers.kms_connection import KmsConnection
from luksctl.providers.kms_token import read_token, write_token
from luksctl.providers.node_id import short_hash
from luksctl.secret import Secret
from luksctl.value import replace
from tests.providers.authorities import Authority, Pair
from tests.providers.kms_server import KmsServer, SilentPort, free_port

UUID = "4c4c4544-0042-3510-8051-b4c04f4e5731"
NONE = "00000000-0000-0000-0000-000000000000"
AUTHORITY = Authority()


@pytest.fixture
def kms() -> Iterator[KmsServer]:
    """Return a KMS that serves every node."""
    with KmsServer(AUTHORITY) as server:
        yield server


class Node:
    """A node with a UUID, and what it needs to reach its KMS."""

    def __init__(self, access: KmsAccess | None = None, uuid: str | None = UUID, timeout_s: float = 5.0) -> None:
        self.connection = KmsConnection(access or KmsAccess(roots=(AUTHORITY.pem,)), timeout_s=timeout_s, bundles=())
        self.provider = KmsProvider(lambda: self.connection, lambda: uuid)

    def make(self, endpoint: str) -> MadeKey:
        """Make a key for slot 3."""
        return self.provider.make("STATE", ConfiguredKey(3, KmsKey(endpoint)))

    def recover(self, endpoint: str, token: str | None) -> list[bytes]:
        """Return all candidates."""
        found = []
        for candidate in self.provider.recover("STATE", ConfiguredKey(3, KmsKey(endpoint)), token):
            with candidate, candidate.view() as view:
                found.append(bytes(view))
        return found


def content(secret: Secret) -> bytes:
    with secret.view() as view:
        return bytes(view)


def reason_of(node: Node, endpoint: str) -> KmsReason:
    """Return why no key is made; it is an error that says which slot it is about, and shows no UUID."""
    with pytest.raises((KmsUnavailable, KmsRejected)) as caught:
        node.make(endpoint)
    assert (caught.value.volume, caught.value.slot) == ("STATE", 3)
    assert UUID not in str(caught.value) + str(caught.value.hint)
    error = caught.value
    assert isinstance(error, KmsUnavailable | KmsRejected)
    return error.reason


# ---- a KMS that behaves ---------------------------------------------------------------------------------------------


def test_a_key_is_sealed_unsealed_and_compared_before_it_is_trusted(kms: KmsServer) -> None:
    """The slot's key is the base64 text of what the KMS unseals; the token has what it sealed, as Talos keeps it."""
    made = Node().make(kms.endpoint)
    assert kms.calls == ["Seal", "Unseal"]
    assert len(content(made.key)) == 44
    assert made.token is not None
    assert made.token == write_token(read_token(made.token))
    assert Node().recover(kms.endpoint, made.token) == [content(made.key)]


def test_volumes_share_a_connection(kms: KmsServer) -> None:
    """One channel for each endpoint of a run."""
    node = Node()
    node.make(kms.endpoint)
    first = node.connection._channels[kms.endpoint]
    node.make(kms.endpoint)
    assert node.connection._channels == {kms.endpoint: first}


def test_a_token_that_is_none_of_its_own_asks_nobody(kms: KmsServer) -> None:
    """What no KMS made, none is asked about."""
    for token in (None, "{}", '{"type":"talos-tpm2"}', '{"UserData":{"sealedData":"?"},"type":"sideroKMS"}'):
        with pytest.raises(TokenInvalid):
            Node().recover(kms.endpoint, token)
    assert kms.calls == []


def test_plain_text_needs_leave_or_loopback() -> None:
    """Off this machine, whoever is on the way would read the keys."""
    with KmsServer(AUTHORITY, plain=True) as server:
        assert Node(KmsAccess()).make(server.endpoint).token is not None
        assert reason_of(Node(KmsAccess()), "grpc://192.0.2.1:4050") is KmsReason.PLAINTEXT
        assert reason_of(Node(KmsAccess(token=Secret.take(b"token"))), server.endpoint) is KmsReason.PLAINTEXT
        assert len(server.calls) == 2


def test_a_node_shows_its_certificate_and_its_token() -> None:
    """Both or one, as the KMS asks."""
    clients = Authority("of the nodes")
    pair = clients.issue("node.example")
    both = KmsAccess(
        roots=(AUTHORITY.pem,),
        certificate=pair.certificate.decode(),
        private_key=Secret.take(pair.key),
        token=Secret.take(b"the-token"),
    )
    with KmsServer(AUTHORITY, clients=clients, token="the-token") as server:
        assert Node(both).make(server.endpoint).token is not None
        refused = Node(replace(both, token=None))
        assert reason_of(refused, server.endpoint) is KmsReason.NOT_ALLOWED
        nobody = replace(both, certificate=None, private_key=None)
        assert reason_of(Node(nobody), server.endpoint) in (KmsReason.UNREACHABLE, KmsReason.TLS, KmsReason.NOT_ALLOWED)


# ---- a KMS that does not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (AUTHORITY.issue(days=(-10, -1)), KmsReason.EXPIRED),
        (AUTHORITY.issue(days=(2, 10)), KmsReason.NOT_YET_VALID),
        (AUTHORITY.issue("other.example"), KmsReason.WRONG_NAME),
        (AUTHORITY.issue("10.1.2.3"), KmsReason.WRONG_NAME),
        (Authority("a stranger").issue(), KmsReason.UNKNOWN_CA),
    ],
    ids=["expired", "not yet valid", "another name", "another address", "unknown authority"],
)
def test_a_wrong_certificate_is_named(pair: Pair, reason: KmsReason) -> None:
    """What to mend differs, so the cause has to be told; nothing is sent."""
    with KmsServer(AUTHORITY, pair=pair) as server:
        assert reason_of(Node(), server.endpoint) is reason
        assert server.calls == []


def test_without_any_authority_nobody_is_believed(kms: KmsServer) -> None:
    """The library's own list of authorities never counts."""
    assert reason_of(Node(KmsAccess()), kms.endpoint) is KmsReason.NO_FILE


def test_the_bundle_that_counts_is_left_for_people(kms: KmsServer, tmp_path: Path) -> None:
    """And where it cannot be, the KMS is asked all the same."""
    for directory in (tmp_path, tmp_path / "not there"):
        access = KmsAccess(roots=(AUTHORITY.pem,))
        connection = KmsConnection(access, bundles=(), run_dir=str(directory))
        KmsProvider(lambda connection=connection: connection, lambda: UUID).make(  # type: ignore[misc]
            "STATE", ConfiguredKey(3, KmsKey(kms.endpoint))
        )
    assert (tmp_path / "kms-roots.pem").read_text() == AUTHORITY.pem


def test_what_is_not_there_or_says_nothing_is_told_apart() -> None:
    """A closed port, a port that is silent, a name that is none, and something else than TLS."""
    with SilentPort(closed=True) as closed, SilentPort() as silent, KmsServer(AUTHORITY, plain=True) as plain:
        assert reason_of(Node(), closed.endpoint) is KmsReason.UNREACHABLE
        assert reason_of(Node(timeout_s=0.3), silent.endpoint) is KmsReason.SLOW
        assert reason_of(Node(), "https://no-such-host.invalid:1") is KmsReason.UNREACHABLE
        assert reason_of(Node(), plain.endpoint.replace("grpc", "https")) is KmsReason.NO_TLS


def test_a_late_answer_is_not_waited_for(kms: KmsServer) -> None:
    """Each call has its own deadline."""
    kms.late_s = 30
    assert reason_of(Node(timeout_s=0.3), kms.endpoint) is KmsReason.SLOW


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, KmsReason.NOT_ALLOWED),
        (grpc.StatusCode.UNAUTHENTICATED, KmsReason.NOT_ALLOWED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, KmsReason.FAILED),
        (grpc.StatusCode.INTERNAL, KmsReason.FAILED),
        (grpc.StatusCode.UNIMPLEMENTED, KmsReason.FAILED),
        (grpc.StatusCode.UNAVAILABLE, KmsReason.UNREACHABLE),
        (grpc.StatusCode.INVALID_ARGUMENT, KmsReason.CANNOT_UNSEAL),
    ],
)
def test_what_the_kms_says_is_translated(kms: KmsServer, code: grpc.StatusCode, reason: KmsReason) -> None:
    """A server that names the node in its answer gives nothing away in our logs."""
    kms.refuse_with = (code, f"no {UUID.upper()}, whoever\nthat is {UUID}")
    assert reason_of(Node(), kms.endpoint) is reason


def test_a_node_that_is_not_allowed_may_be_later(kms: KmsServer) -> None:
    """Pending and revoked are for the operator of the KMS to change: asking again helps then."""
    made = Node().make(kms.endpoint)
    node = Node()
    kms.allowed = set()
    with pytest.raises(KmsUnavailable) as caught:
        node.recover(kms.endpoint, made.token)
    assert caught.value.reason is KmsReason.NOT_ALLOWED
    assert str(caught.value.hint).endswith(f"luksctl kms node allow {short_hash(UUID)}")
    kms.allowed = {UUID}
    assert node.recover(kms.endpoint, made.token) == [content(made.key)]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x0a",
        b"\x0a\x20short",
        b"\xff" * 40,
        encode_response(b"31 bytes".ljust(31)),
        encode_response(bytes(33)),
        encode_response(bytes(20000)),
        bytes(100_000),
    ],
    ids=["nothing", "cut", "cut short", "garbage", "31 bytes", "33 bytes", "far too long", "too large to take in"],
)
def test_a_wrong_answer_makes_no_key_and_opens_nothing(kms: KmsServer, answer: bytes) -> None:
    """Neither when it is made nor when it is recovered; and what can be right is not refused for one wrong answer."""
    token = Node().make(kms.endpoint).token
    kms.spoil = lambda method, right: answer if method == UNSEAL else right
    with pytest.raises(KmsUnavailable):
        Node().recover(kms.endpoint, token)
    assert reason_of(Node(), kms.endpoint) in (KmsReason.WRONG_ANSWER, KmsReason.FAILED)
    kms.spoil = None
    assert len(Node().recover(kms.endpoint, token)) == 1


def test_a_kms_that_seals_what_it_does_not_give_back_makes_no_key(kms: KmsServer) -> None:
    """Random bytes for every Unseal, as a server that lost its key may give: found before a slot is written."""
    kms.spoil = lambda method, right: encode_response(os.urandom(32)) if method == UNSEAL else right
    assert reason_of(Node(), kms.endpoint) is KmsReason.WRONG_ANSWER
    kms.spoil = lambda method, right: b"" if method == SEAL else right
    assert reason_of(Node(), kms.endpoint) is KmsReason.WRONG_ANSWER


def test_random_bytes_are_a_candidate_that_the_slot_refuses(kms: KmsServer) -> None:
    """The reference server answers so to a node or data that it does not know; only the slot can tell."""
    made = Node().make(kms.endpoint)
    kms.random_on_mismatch = True
    kms.master_key = os.urandom(32)
    node, key = Node(), ConfiguredKey(3, KmsKey(kms.endpoint))
    assert node.provider.explain_rejection("STATE", key) is None
    found = node.recover(kms.endpoint, made.token)
    assert len(found) == 1
    assert found != [content(made.key)]
    explained = node.provider.explain_rejection("STATE", key)
    assert explained is not None
    assert "does not open the keyslot" in explained


# ---- several endpoints ----------------------------------------------------------------------------------------------


def together(*servers: KmsServer | SilentPort) -> Node:
    """Return a node that may ask all of `servers` for what the first one is configured for."""
    first, *others = [server.endpoint for server in servers]
    return Node(KmsAccess(alternatives=((first, tuple(others)),), roots=(AUTHORITY.pem,)), timeout_s=10)


def test_the_first_answer_wins_and_dead_endpoints_cost_nothing(kms: KmsServer) -> None:
    """A dead endpoint beside one that lives, whichever of them the key names."""
    with SilentPort(closed=True) as closed, SilentPort() as silent:
        node = together(closed, silent, kms)
        made = node.make(closed.endpoint)
        assert next(iter(node.provider.recover("STATE", ConfiguredKey(3, KmsKey(closed.endpoint)), made.token)))
        other = together(kms, silent)
        first = next(iter(other.provider.recover("STATE", ConfiguredKey(3, KmsKey(kms.endpoint)), made.token)))
        assert content(first) == content(made.key)


def test_an_endpoint_that_gives_a_wrong_key_does_not_hide_one_that_gives_the_right_one(kms: KmsServer) -> None:
    """Every answer is tried at the slot, as long as none opens it."""
    with KmsServer(AUTHORITY) as broken:
        broken.random_on_mismatch = True
        made = Node().make(kms.endpoint)
        found = together(broken, kms).recover(broken.endpoint, made.token)
        assert len(found) == 2
        assert content(made.key) in found


def test_where_all_fail_each_is_named(kms: KmsServer) -> None:
    """The error may be mended at any of them."""
    made = Node().make(kms.endpoint)
    kms.allowed = set()
    with SilentPort(closed=True) as closed, pytest.raises(KmsUnavailable) as caught:
        together(kms, closed).recover(kms.endpoint, made.token)
    assert f":{kms.port}" in caught.value.cause
    assert f":{closed.port}" in caught.value.cause


def test_a_wrong_key_beside_a_silent_endpoint_is_no_verdict(kms: KmsServer) -> None:
    """The endpoint that said nothing may have the right one."""
    made = Node().make(kms.endpoint)
    with KmsServer(AUTHORITY) as broken, SilentPort(closed=True) as closed:
        broken.random_on_mismatch = True
        with pytest.raises(KmsUnavailable, match="opens nothing"):
            together(broken, closed).recover(broken.endpoint, made.token)


# ---- the node -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uuid", [None, NONE, "\udcff is no UTF-8, and no UUID either"])
def test_a_node_without_an_identity_of_its_own_makes_no_key(kms: KmsServer, uuid: str | None) -> None:
    """Many machines have the UUID that the vendor left unset: they would share their keys."""
    assert reason_of(Node(uuid=uuid), kms.endpoint) is KmsReason.NO_UUID
    assert kms.calls == []


def test_a_slot_of_such_a_node_still_opens(kms: KmsServer) -> None:
    """Talos makes them."""
    sealed = kms._seal(NONE, bytes(32))
    assert len(Node(uuid=NONE).recover(kms.endpoint, write_token(sealed))) == 1


def test_a_kms_that_comes_back_is_found_again() -> None:
    """The connection of a run is not stuck with the failure it had."""
    port = free_port()
    node, endpoint = Node(), f"https://127.0.0.1:{port}"
    with KmsServer(AUTHORITY, port=port) as server:
        made = node.make(endpoint)
        master_key = server.master_key
    with pytest.raises(KmsUnavailable):
        node.recover(endpoint, made.token)
    with KmsServer(AUTHORITY, port=port, master_key=master_key):
        assert node.recover(endpoint, made.token) == [content(made.key)]
