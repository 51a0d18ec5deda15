"""META knows how the KMS of STATE is reached: what it keeps, when it follows a new config, and when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.errors import KmsReason, KmsUnavailable
from luksctl.model.config import STATE, ConfiguredKey, EncryptionPolicy, KmsPolicy
from luksctl.model.meta import KmsAccess
from luksctl.node.kms_reach import follow_access, prepare_access
from luksctl.node.sync import ruling_config
from luksctl.providers.kms_connection import CALL_TIMEOUT_S
from luksctl.reconcile.desire import desire_from_meta
from tests.node.kms_node import KmsNode, key_of
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KmsNode:
    """Return a node whose config has a static key only."""
    return KmsNode(tmp_path, monkeypatch)


def kept(node: KmsNode) -> KmsAccess | None:
    """Return what META keeps."""
    found = node.node.ports.meta.load().kms_access
    return None if found is None else found.access


def test_a_sync_that_adds_a_kms_key_has_meta_keep_the_authority(node: KmsNode) -> None:
    """And with that alone, without any file of the config, META's own list of keys opens STATE."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
        found = kept(node)
        assert found == KmsAccess(roots=(node.authority.pem,))
        policy = desire_from_meta(node.node.ports.meta.load()).policy
        assert policy == EncryptionPolicy(kms=KmsPolicy(from_meta=True))
        node.ca_file.unlink()
        node.works(STATE)  # by what META keeps, for the file is gone
        asked = len(server.calls)
        assert not node.in_sync()  # and that it is gone is told
        assert len(server.calls) == asked


def test_meta_does_not_follow_an_authority_that_reaches_nobody(node: KmsNode) -> None:
    """The next boot would not reach it either: what works stays, and the reason is told."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
        before = kept(node)
        node.ca_file.write_text(Authority("a stranger").pem)
        problems = node.problems()
        assert "not by this config" in problems
        assert "unknown authority" in problems
        assert kept(node) == before
        node.ca_file.write_text(Authority("a stranger").pem + node.authority.pem)
        assert node.in_sync()
        assert kept(node) != before


def test_meta_does_not_follow_while_the_kms_is_away(node: KmsNode) -> None:
    """It follows as soon as one of the keys was seen to work that way."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
        master_key = server.master_key
    node.configure_with(key_of(server), policy="network: VLAN 7")
    assert "is not reached" in node.problems()
    with KmsServer(node.authority, port=server.port, master_key=master_key):
        assert node.in_sync()
    found = kept(node)
    assert found is not None
    assert found.note == "VLAN 7"


def test_what_the_node_shows_is_kept_as_well(node: KmsNode) -> None:
    """A certificate and a token, which META then has where the files of the config cannot be read."""
    clients = Authority("of the nodes")
    pair, directory = clients.issue("node.example"), node.directory
    for name, content in (("crt", pair.certificate), ("key", pair.key), ("token", b"the-token\n")):
        (directory / name).write_bytes(content)
    with KmsServer(node.authority, clients=clients, token="the-token") as server:
        files = (("clientCertificate", "crt"), ("clientKey", "key"), ("tokenFile", "token"))
        node.configure_with(key_of(server), policy=", ".join(f"{field}: {directory / name}" for field, name in files))
        assert node.in_sync()
        found = kept(node)
        assert found is not None
        assert found.has_credential  # in clear: there is no TPM here
        for _, name in files:
            (directory / name).unlink()
        node.works(STATE)


def test_what_no_key_needs_any_more_is_forgotten(node: KmsNode) -> None:
    """A credential of a KMS that nobody asks has no business on the disk."""
    with KmsServer(node.authority) as server:
        node.use(server)
        assert node.in_sync()
    node.configure_with()
    assert node.in_sync()
    assert kept(node) is None


def test_before_a_first_format_meta_keeps_it_already(node: KmsNode) -> None:
    """Nothing opens STATE yet that could be lost, and no cut leaves a STATE that nobody knows how to open."""
    node.configure_with(key_of_nobody())
    prepare_access(node.node, ruling_config(node.node))
    assert kept(node) is None  # there is a STATE, whose own config META follows
    node.node.ports.meta.write_state_encryption(None)
    prepare_access(node.node, ruling_config(node.node))
    assert kept(node) == KmsAccess(roots=(node.authority.pem,))


def test_what_keeps_meta_from_it_keeps_no_state_from_opening(node: KmsNode) -> None:
    """It is told, and that is all."""
    node.configure_with(key_of_nobody())
    node.node.ports.meta.write_state_encryption(None)
    node.ca_file.unlink()
    prepare_access(node.node, ruling_config(node.node))
    assert kept(node) is None
    assert any("META does not keep" in told for told in node.told)


def test_a_config_that_needs_nothing_special_leaves_nothing_in_meta(node: KmsNode) -> None:
    """A KMS with a certificate that everybody trusts is reached by its endpoint alone."""
    text = "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption:\n  provider: luks2\n  keys:\n"
    config = parse_machine_config(f"{text}  - {{slot: 1, kms: {{endpoint: https://kms}}}}\n".encode(), "x")
    assert follow_access(node.node, config) is None
    assert kept(node) is None


def test_a_file_that_is_missing_is_named_where_meta_has_nothing(node: KmsNode) -> None:
    """Whoever puts it back is helped."""
    node.configure_with(key_of_nobody())
    node.ca_file.unlink()
    with pytest.raises(KmsUnavailable) as caught:
        node.node.ports.under(ruling_config(node.node).policy).provider(kms_key(node)).make(STATE, kms_key(node))
    assert caught.value.reason is KmsReason.NO_FILE
    assert str(node.ca_file) in caught.value.cause
    assert CALL_TIMEOUT_S == 10


def key_of_nobody() -> str:
    """Return a kms key where nobody listens."""
    return "slot: 1, kms: {endpoint: 'https://127.0.0.1:1'}"


def kms_key(node: KmsNode) -> ConfiguredKey:
    """Return the kms key of STATE."""
    encryption = ruling_config(node.node).encryption_of(STATE)
    assert encryption is not None
    return encryption.keys[-1]
