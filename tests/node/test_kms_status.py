"""What status says of kms keys while all is well."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from luksctl.model.config import STATE
from luksctl.model.meta import KeptAccess, KmsAccess
from luksctl.model.observed import Luks2
from luksctl.node.check import check
from luksctl.node.kms_status import UNPROVEN_AFTER_S, kms_warnings
from luksctl.node.preview import outlook, preview
from luksctl.node.volume_status import volume_status
from luksctl.secret import Secret
from tests.node.kms_node import KmsNode
from tests.providers.kms_server import KmsServer


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KmsNode:
    """Return a node with a kms key in sync, and no KMS any more."""
    found = KmsNode(tmp_path, monkeypatch)
    with KmsServer(found.authority) as server:
        found.use(server)
        assert found.in_sync()
        check(found.node, (STATE,))
    return found


def warnings(node: KmsNode, after_s: float = 0) -> tuple[str, ...]:
    """Return what is said of STATE so many seconds from now."""
    seen = preview(outlook(node.node), STATE)
    assert isinstance(seen.observed, Luks2)
    return kms_warnings(node.node, seen, seen.observed.header, lambda: time.time() + after_s)


def test_a_key_that_was_not_proven_for_thirty_days_is_named(node: KmsNode) -> None:
    """A KMS that lost its keys is found before it is needed."""
    assert warnings(node) == ()
    (found,) = warnings(node, UNPROVEN_AFTER_S + 60)
    assert found.startswith("slot 1 (kms) was last proven on 2")
    check(node.node, (STATE,))  # the KMS is gone, so this proves nothing
    assert len(warnings(node, UNPROVEN_AFTER_S + 60)) == 1


def test_a_credential_in_clear_is_told_with_the_status(node: KmsNode) -> None:
    """The disk opens itself wherever it can reach the KMS."""
    node.node.ports.meta.write_kms_access(KeptAccess(KmsAccess(token=Secret.take(b"the-token"))))
    shown = volume_status(node.node, preview(outlook(node.node), STATE)).warnings
    assert any("carries its own credential" in warning for warning in shown)
    assert not any("the-token" in warning for warning in shown)
