"""The talos-tpm2 token: written byte for byte as Talos writes it, read strictly where a value counts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import TokenInvalid
from luksctl.providers.tpm_policy import Policy
from luksctl.providers.tpm_public import sealed_template, sized
from luksctl.providers.tpm_token import TpmToken, read_token, write_token

POLICY_HASH = bytes(range(32))
# What the TPM adds to a template is the hash in the unique field.
PUBLIC = sized(sealed_template(POLICY_HASH)[:-2] + sized(b"\x55" * 32))
PRIVATE = sized(b"\xaa" * 158)
NAME = sized(b"\x00\x0b" + b"\x11" * 32)
TOKEN = TpmToken(3, PRIVATE, PUBLIC, (0, 7), (11,), POLICY_HASH, NAME)
OLD = TpmToken(3, PRIVATE, PUBLIC, (11,), (), POLICY_HASH, NAME, version="")

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = tuple(json.loads(write_token(TOKEN))["UserData"])


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def document(**changed: Any) -> dict[str, Any]:
    """Return the token as JSON values, with these fields of its data changed; ... leaves one out."""
    whole: dict[str, Any] = json.loads(write_token(TOKEN))
    data = {**whole["UserData"], **changed}
    whole["UserData"] = {name: value for name, value in data.items() if value is not ...}
    return whole


def test_a_token_of_talos_1_12() -> None:
    """The fields in this order, compact, `keyslots` outside empty."""
    assert write_token(TOKEN) == (
        '{"UserData":{"keyslots":[3],'
        f'"sealed_blob_private":"{b64(PRIVATE)}","sealed_blob_public":"{b64(PUBLIC)}",'
        '"pcrs":[0,7],"pubkey_pcrs":[11],"alg":"sha256","encryption_version":"1",'
        f'"policy_hash":"{b64(POLICY_HASH)}","key_name":"{b64(NAME)}"'
        '},"type":"talos-tpm2","keyslots":[]}'
    )


def test_a_token_of_talos_1_5() -> None:
    """It has neither signed PCRs nor a version, and its pcrs are the signed one."""
    assert write_token(OLD) == (
        '{"UserData":{"keyslots":[3],'
        f'"sealed_blob_private":"{b64(PRIVATE)}","sealed_blob_public":"{b64(PUBLIC)}",'
        f'"pcrs":[11],"alg":"sha256","policy_hash":"{b64(POLICY_HASH)}","key_name":"{b64(NAME)}"'
        '},"type":"talos-tpm2","keyslots":[]}'
    )


@pytest.mark.parametrize(
    ("pcrs", "signed_pcrs", "version", "policy"),
    [
        ((7,), (11,), "1", Policy(signed=True, bound=(7,))),
        ((), (11,), "1", Policy(signed=True, bound=())),
        ((4, 7), (), "1", Policy(signed=False, bound=(4, 7))),
        ((11,), (), "1", Policy(signed=False, bound=(11,))),
        ((11,), (), "", Policy(signed=True, bound=(7,))),
        ((7,), (11,), "", Policy(signed=True, bound=())),
        ((4,), (), "", Policy(signed=True, bound=())),
        ((7,), (11,), "2", Policy(signed=True, bound=(7,))),
    ],
)
def test_what_a_token_is_bound_to(
    pcrs: tuple[int, ...], signed_pcrs: tuple[int, ...], version: str, policy: Policy
) -> None:
    """Talos' three cases, and our own without a signed PCR; an empty list is not written."""
    token = TpmToken(0, PRIVATE, PUBLIC, pcrs, signed_pcrs, POLICY_HASH, NAME, version)
    assert read_token(write_token(token)) == token
    assert token.policy == policy


@given(
    slot=st.integers(0, 31),
    private=st.binary(min_size=1, max_size=600),
    pcrs=st.sets(st.integers(0, 23)),
    name=st.binary(min_size=34, max_size=34),
)
def test_what_was_written_is_read(slot: int, private: bytes, pcrs: set[int], name: bytes) -> None:
    """Whatever the TPM made."""
    token = TpmToken(slot, sized(private), PUBLIC, tuple(sorted(pcrs)), (11,), POLICY_HASH, sized(name))
    assert read_token(write_token(token)) == token


def test_unknown_fields_do_not_matter() -> None:
    """Talos may add some; inside and outside."""
    whole = document(added={"later": True})
    whole["added"] = 1
    assert read_token(json.dumps(whole)) == TOKEN
    del whole["keyslots"]
    assert read_token(json.dumps(whole)) == TOKEN


@pytest.mark.parametrize("name", FIELDS)
@given(value=JSON_VALUES)
def test_garbage_in_any_field_is_invalid_or_the_token_all_the_same(name: str, value: Any) -> None:
    """Nothing but TokenInvalid is raised, and what is read can be written and read again."""
    try:
        token = read_token(json.dumps(document(**{name: value})))
    except TokenInvalid:
        return
    assert read_token(write_token(token)) == token


@given(text=st.text() | JSON_VALUES.map(json.dumps) | st.just("9" * 5000) | st.just('{"a":' * 100_000))
def test_any_other_text_is_invalid(text: str) -> None:
    """None of them is a token."""
    with pytest.raises(TokenInvalid):
        read_token(text)


@given(place=st.integers(0, len(write_token(TOKEN)) - 1), character=st.characters(codec="ascii"))
def test_any_character_may_be_another(place: int, character: str) -> None:
    """One that was damaged is refused, or says something that can be written down."""
    text = write_token(TOKEN)
    try:
        token = read_token(text[:place] + character + text[place + 1 :])
    except TokenInvalid:
        return
    assert read_token(write_token(token)) == token


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, ...) for name in FIELDS if name not in {"pcrs", "pubkey_pcrs", "encryption_version"}),
        ("keyslots", []),
        ("keyslots", [1, 2]),
        ("keyslots", [32]),
        ("keyslots", [True]),
        ("alg", "sha1"),
        ("pcrs", [24]),
        ("pcrs", [-1]),
        ("pcrs", [7, 0]),
        ("pcrs", [7, 7]),
        ("pcrs", ["7"]),
        ("pubkey_pcrs", [7]),
        ("pubkey_pcrs", [11, 12]),
        ("encryption_version", 1),
        ("encryption_version", None),
        ("policy_hash", b64(POLICY_HASH[:-1])),
        ("policy_hash", b64(POLICY_HASH[::-1])),
        ("policy_hash", b64(POLICY_HASH) + "\n"),
        ("policy_hash", "é"),
        ("key_name", b64(NAME[2:])),
        ("key_name", b64(sized(NAME[2:-1]))),
        ("sealed_blob_private", ""),
        ("sealed_blob_private", b64(sized(b""))),
        ("sealed_blob_private", b64(PRIVATE + b"\0")),
        ("sealed_blob_private", b64(PRIVATE[:-1])),
        ("sealed_blob_private", b64(sized(bytes(5000)))),
        ("sealed_blob_public", b64(PUBLIC[:-1])),
        ("sealed_blob_public", b64(sized(PUBLIC[2:] + b"\0"))),
        ("sealed_blob_public", b64(sized(b"\x00\x23" + PUBLIC[4:]))),
    ],
)
def test_what_no_tpm_can_unseal_is_invalid(name: str, value: object) -> None:
    """The field is named."""
    with pytest.raises(TokenInvalid, match=rf"the token's (policy_hash|{name}) "):
        read_token(json.dumps(document(**{name: value})))


def test_a_token_that_is_bound_to_nothing_is_refused() -> None:
    """Whoever wrote it wants it opened whatever was booted."""
    with pytest.raises(TokenInvalid, match="pcrs"):
        read_token(json.dumps(document(pcrs=..., pubkey_pcrs=...)))
