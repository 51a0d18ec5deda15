"""Every configured key finds a provider, or one that says why there is none and lets the others go on."""

from __future__ import annotations

import pytest

from luksctl.errors import KeyRejected
from luksctl.model.config import ConfiguredKey, KeyKind, KeySource, KmsKey, NodeIdKey, StaticKey, TpmKey
from luksctl.providers.node_id import NodeIdProvider
from luksctl.providers.registry import Registry
from luksctl.providers.static import StaticProvider
from luksctl.secret import Secret

STATIC = StaticKey(Secret.take(b"pw"))
NODE_ID = NodeIdProvider(lambda: None)
REGISTRY = Registry({KeyKind.STATIC: StaticProvider(), KeyKind.NODE_ID: NODE_ID})


def test_each_kind_has_its_provider() -> None:
    """By the kind of the key's source; an explicit false is not locked."""
    assert isinstance(REGISTRY(ConfiguredKey(0, STATIC, lock_to_state=False)), StaticProvider)
    assert REGISTRY(ConfiguredKey(0, NodeIdKey())) is NODE_ID


@pytest.mark.parametrize(
    ("source", "lock_to_state", "why"),
    [
        (KmsKey("h"), None, "no provider for kms keys"),
        (TpmKey(), None, "no provider for tpm keys"),
        (STATIC, True, "no STATE here"),
        (NodeIdKey(), True, "no STATE here"),
        (KmsKey("h"), True, "no provider for kms keys"),
    ],
)
def test_what_no_provider_serves_is_rejected(source: KeySource, *, lock_to_state: bool | None, why: str) -> None:
    """Asking for the provider is no error; using it says which slot, and why."""
    key = ConfiguredKey(7, source, lock_to_state)
    provider = REGISTRY(key)
    for attempt in (lambda: provider.make("STATE", key), lambda: provider.recover("STATE", key, None)):
        with pytest.raises(KeyRejected, match=why) as caught:
            attempt()
        assert (caught.value.volume, caught.value.slot) == ("STATE", 7)
    assert why in str(provider.explain_rejection("STATE", key))
