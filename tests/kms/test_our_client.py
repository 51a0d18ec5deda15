"""Node and server of luksctl together: the kms provider asks `luksctl kms serve`."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable
from luksctl.kms.room import Kms
from luksctl.model.config import ConfiguredKey, KmsKey
from luksctl.model.kms import NodeState
from luksctl.model.meta import KmsAccess
from luksctl.model.ports import MadeKey
from luksctl.providers.kms import KmsProvider
from luksctl.providers.kms_connection import KmsConnection
from luksctl.providers.node_id import short_hash
from luksctl.secret import Secret
from tests.kms.pki import Authority
from tests.kms.serving import NODE, OTHER, ServerProcess, allow, initialise

TOKEN = b"a-token-for-tests-that-nobody-guesses"


class Node:
    """A node that asks one KMS."""

    def __init__(self, server: ServerProcess, access: KmsAccess | None = None, uuid: str = NODE) -> None:
        roots = (server.directory / "self-signed.crt").read_text(encoding="utf-8")
        self._connection = KmsConnection(access or KmsAccess(roots=(roots,)), timeout_s=10.0, bundles=())
        self._provider = KmsProvider(lambda: self._connection, lambda: uuid)
        self._key = ConfiguredKey(3, KmsKey(f"https://{server.target}"))

    def make(self) -> MadeKey:
        """Make a key."""
        return self._provider.make("STATE", self._key)

    def recover(self, token: str | None) -> list[bytes]:
        """Return what the token opens to."""
        return [_bytes(candidate) for candidate in self._provider.recover("STATE", self._key, token)]


def _bytes(secret: Secret) -> bytes:
    with secret, secret.view() as view:
        return bytes(view)


def test_a_key_is_made_and_recovered_and_a_revoked_node_gets_none(tmp_path: Path) -> None:
    """Pending first, by the hash that the node shows of itself; then allowed, and revoked again."""
    initialise(tmp_path)
    with ServerProcess(tmp_path) as server:
        node = Node(server)
        with pytest.raises(KmsUnavailable) as pending:
            node.make()
        assert pending.value.reason is KmsReason.NOT_ALLOWED
        while not Kms().nodes(str(tmp_path)):
            pass
        allow(tmp_path, short_hash(NODE))
        made = node.make()
        assert node.recover(made.token) == [_bytes(made.key)]
        allow(tmp_path, NODE, state=NodeState.REVOKED)
        with pytest.raises(KmsUnavailable) as revoked:
            node.recover(made.token)
        assert revoked.value.reason is KmsReason.NOT_ALLOWED


def test_another_nodes_token_is_rejected_for_good(tmp_path: Path) -> None:
    """Asking again is of no use, and the node is told so."""
    initialise(tmp_path)
    allow(tmp_path, NODE, OTHER)
    with ServerProcess(tmp_path) as server:
        made = Node(server).make()
        with pytest.raises(KmsRejected):
            Node(server, uuid=OTHER).recover(made.token)


def test_certificate_and_token_are_what_the_server_asks_for(tmp_path: Path) -> None:
    """With both it is served; without the token it is not."""
    initialise(tmp_path)
    allow(tmp_path, NODE)
    clients = Authority()
    (tmp_path / "clients.crt").write_bytes(clients.certificate)
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    pair = clients.client(uris=(f"urn:uuid:{NODE}",))
    options = ("--client-ca", str(tmp_path / "clients.crt"), "--token-file", str(tmp_path / "token"))

    def access(token: Secret | None) -> KmsAccess:
        return KmsAccess(
            roots=((tmp_path / "self-signed.crt").read_text(encoding="utf-8"),),
            certificate=pair.certificate.decode(),
            private_key=Secret.take(pair.key),
            token=token,
        )

    with ServerProcess(tmp_path, *options) as server:
        node = Node(server, access(Secret.take(TOKEN)))
        made = node.make()
        assert node.recover(made.token) == [_bytes(made.key)]
        with pytest.raises(KmsUnavailable):
            Node(server, access(None)).make()
