"""The token of a kms slot, byte for byte as Talos keeps it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import TokenInvalid
from luksctl.providers.kms_token import LONGEST_SEALED_BYTES, read_token, write_token


def test_the_text_is_that_of_talos() -> None:
    """Fields, their order, and an empty list of keyslots."""
    assert write_token(b"sealed") == '{"UserData":{"sealedData":"c2VhbGVk"},"type":"sideroKMS","keyslots":[]}'


@given(st.binary(min_size=1, max_size=LONGEST_SEALED_BYTES))
def test_what_was_written_is_read(sealed: bytes) -> None:
    """Whatever the KMS made of a key."""
    assert read_token(write_token(sealed)) == sealed


def test_fields_that_nobody_knows_yet_are_tolerated() -> None:
    """A later Talos may add some; libcryptsetup adds slots of its own."""
    document = json.loads(write_token(b"sealed"))
    document["UserData"]["later"] = 1
    document["keyslots"] = ["3"]
    assert read_token(json.dumps(document)) == b"sealed"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{" * 100_000,
        '{"type":"talos-tpm2","UserData":{"sealedData":"c2VhbGVk"}}',
        '{"type":"sideroKMS"}',
        '{"type":"sideroKMS","UserData":[]}',
        '{"type":"sideroKMS","UserData":{"sealedData":7}}',
        '{"type":"sideroKMS","UserData":{"sealedData":""}}',
        '{"type":"sideroKMS","UserData":{"sealedData":"c2VhbGVk\\n"}}',
        '{"type":"sideroKMS","UserData":{"sealedData":"c2Vh!"}}',
        json.dumps({"type": "sideroKMS", "UserData": {"sealedData": "AAAA" * LONGEST_SEALED_BYTES}}),
    ],
)
def test_what_no_kms_made_is_refused(text: str | None) -> None:
    """Before anybody is asked about it."""
    with pytest.raises(TokenInvalid):
        read_token(text)
