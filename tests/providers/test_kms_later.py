"""What stands in the place of a KMS before there is a network."""

from __future__ import annotations

import pytest

from luksctl.errors import KmsReason, KmsUnavailable, TokenInvalid
from luksctl.model.config import ConfiguredKey, KmsKey
from luksctl.providers.kms_later import KmsLater
from luksctl.providers.kms_token import write_token

KEY = ConfiguredKey(2, KmsKey("https://kms"))


def test_nobody_is_asked_and_it_is_noted() -> None:
    """Making and recovering are left to the stage that can."""
    missed: list[str] = []
    provider = KmsLater(missed.append)
    for attempt in (
        lambda: provider.make("STATE", KEY),
        lambda: provider.recover("EPHEMERAL", KEY, write_token(b"sealed")),
    ):
        with pytest.raises(KmsUnavailable) as caught:
            attempt()
        assert caught.value.reason is KmsReason.NETWORK_LATER
        assert caught.value.slot == 2
    assert missed == ["STATE", "EPHEMERAL"]
    assert provider.explain_rejection("STATE", KEY) is None


def test_a_token_that_no_kms_made_is_told_at_once() -> None:
    """There is nothing to wait for."""
    missed: list[str] = []
    with pytest.raises(TokenInvalid):
        KmsLater(missed.append).recover("STATE", KEY, None)
    assert missed == []
