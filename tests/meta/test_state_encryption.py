"""Tag 9: read as Talos reads it where that is safe, written as Go writes it, and never a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.errors import MetaError
from luksctl.meta.go_json import GoJson
from luksctl.meta.state_encryption import decode
from luksctl.meta.state_encryption_text import encode
from luksctl.model.config import (
    PERFORMANCE_OPTIONS,
    ConfiguredKey,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.secret import Secret
from tests.marker import MARKER, shown_in

MODERN_NODE_ID = (
    b'{"EncryptionProvider":"luks2","EncryptionKeys":[{"KeySlot":1,"KeyStatic":null,"KeyNodeID":{},"KeyKMS":null,'
    b'"KeyTPM":null,"KeyLockToSTATE":null}],"EncryptionCipher":"","EncryptionKeySize":0,"EncryptionBlockSize":0,'
    b'"EncryptionPerfOptions":null,"EncryptionAllowDiscards":null}'
)
LEGACY_NODE_ID = (
    b'{"EncryptionProvider":"","EncryptionKeys":[{"KeyStatic":null,"KeyNodeID":{},"KeyKMS":null,"KeySlot":1,'
    b'"KeyTPM":null}],"EncryptionCipher":"","EncryptionKeySize":0,"EncryptionBlockSize":0,"EncryptionPerfOptions":null}'
)
NODE_ID = VolumeEncryption((ConfiguredKey(1, NodeIdKey()),))

passphrases = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
flags = st.none() | st.booleans()
sources = st.one_of(
    passphrases.map(lambda text: StaticKey(Secret.take(text.encode()))),
    st.just(NodeIdKey()),
    passphrases.map(KmsKey),
    st.builds(TpmKey, st.none() | st.lists(st.integers(0, 23), max_size=4).map(tuple), flags),
)
keys = st.lists(
    st.builds(ConfiguredKey, st.integers(0, 31), sources, flags), min_size=1, max_size=6, unique_by=lambda key: key.slot
).map(lambda found: tuple(sorted(found, key=lambda key: key.slot)))
encryptions = st.builds(
    VolumeEncryption,
    keys,
    st.none() | st.sampled_from(["aes-xts-plain64", "xchacha12,aes-adiantum-plain64"]),
    st.none() | st.integers(1, 4096),
    st.none() | st.sampled_from([512, 4096]),
    st.none() | st.lists(st.sampled_from(PERFORMANCE_OPTIONS), max_size=3).map(tuple),
    flags,
)
names = ["EncryptionProvider", "EncryptionKeys", "KeyStatic", "KeyNodeID", "KeyTPM", "TPMOptions", "PCRs", "KeySlot"]
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


def document(**fields: object) -> bytes:
    """Return a modern document with one nodeID key, some fields replaced."""
    return json.dumps({**json.loads(MODERN_NODE_ID), **fields}).encode()


def test_the_modern_form_is_written_byte_for_byte() -> None:
    """The example of the format, and one key of each kind with every field set."""
    assert encode(NODE_ID) == MODERN_NODE_ID
    full = VolumeEncryption(
        keys=(
            ConfiguredKey(0, StaticKey(Secret.take(b"pw")), lock_to_state=False),
            ConfiguredKey(2, KmsKey("https://h:1?a&b"), lock_to_state=True),
            ConfiguredKey(3, TpmKey((7, 11), check_secureboot_on_enroll=True)),
            ConfiguredKey(4, TpmKey()),
            ConfiguredKey(5, TpmKey(())),
        ),
        cipher="aes-xts-plain64",
        key_size_bits=256,
        block_size_bytes=4096,
        options=("no_read_workqueue", "same_cpu_crypt"),
        allow_discards=True,
    )
    none = '"KeyStatic":null,"KeyNodeID":null'
    assert encode(full).decode() == (
        '{"EncryptionProvider":"luks2","EncryptionKeys":['
        '{"KeySlot":0,"KeyStatic":{"KeyData":"pw"},"KeyNodeID":null,"KeyKMS":null,"KeyTPM":null,"KeyLockToSTATE":false},'
        f'{{"KeySlot":2,{none},"KeyKMS":{{"KMSEndpoint":"https://h:1?a\\u0026b"}},"KeyTPM":null,"KeyLockToSTATE":true}},'
        f'{{"KeySlot":3,{none},"KeyKMS":null,"KeyTPM":{{"TPMOptions":{{"PCRs":[7,11]}},'
        '"TPMCheckSecurebootStatusOnEnroll":true},"KeyLockToSTATE":null},'
        f'{{"KeySlot":4,{none},"KeyKMS":null,"KeyTPM":{{"TPMOptions":null,'
        '"TPMCheckSecurebootStatusOnEnroll":null},"KeyLockToSTATE":null},'
        f'{{"KeySlot":5,{none},"KeyKMS":null,"KeyTPM":{{"TPMOptions":{{"PCRs":[]}},'
        '"TPMCheckSecurebootStatusOnEnroll":null},"KeyLockToSTATE":null}],'
        '"EncryptionCipher":"aes-xts-plain64","EncryptionKeySize":256,"EncryptionBlockSize":4096,'
        '"EncryptionPerfOptions":["no_read_workqueue","same_cpu_crypt"],"EncryptionAllowDiscards":true}'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>&c", r'"a\u003cb\u003e\u0026c"'),
        ('"\\/', r'"\"\\/"'),
        ("\b\t\n\f\r", r'"\b\t\n\f\r"'),
        ("\0\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ("\u2028\u2029\u2027\u202a", '"\\u2028\\u2029\u2027\u202a"'),
        ("ä€𝄞\ufffd", '"ä€𝄞\ufffd"'),
        ("\u20ac\u2028", '"\u20ac\\u2028"'),
    ],
)
def test_strings_are_escaped_as_go_does(text: str, expected: str) -> None:
    """HTML's characters, control characters and the two separators; everything else as it is."""
    written = GoJson(200)
    written.string(text.encode())
    assert written.take().decode() == expected


@given(st.binary(max_size=8))
def test_only_utf8_becomes_a_string(text: bytes) -> None:
    """The check agrees with Python's decoder, and what passes is read back unchanged."""
    written = GoJson(200)
    try:
        expected = text.decode()
    except UnicodeDecodeError:
        with pytest.raises(ValueError, match="not UTF-8"):
            written.string(text)
    else:
        written.string(text)
        assert json.loads(written.take()) == expected


def test_a_passphrase_no_json_can_carry_is_refused() -> None:
    """Go would write U+FFFD and lock STATE; here META stays as it is."""
    with pytest.raises(MetaError, match="not UTF-8"):
        encode(VolumeEncryption((ConfiguredKey(0, StaticKey(Secret.take(b"\xff\xfe"))),)))


def test_more_than_the_capacity_is_an_error_and_never_grows() -> None:
    """A buffer that grew would leave its old memory unwiped."""
    written = GoJson(3)
    with pytest.raises(ValueError, match="capacity"):
        written.string(b"ab")


@given(encryptions)
def test_what_is_written_is_read(encryption: VolumeEncryption) -> None:
    """Every encryption comes back equal, so a converged boot finds nothing to write."""
    assert decode(bytes(encode(encryption))) == encryption


@pytest.mark.parametrize("value", [MODERN_NODE_ID, LEGACY_NODE_ID, LEGACY_NODE_ID.replace(b'""', b'"luks2"', 1)])
def test_both_forms_say_the_same(value: bytes) -> None:
    """Modern, legacy, and legacy that names its provider."""
    assert decode(value) == NODE_ID


@pytest.mark.parametrize(
    "value", [b"null", b" null\n", document(EncryptionProvider="none"), document(EncryptionProvider="None")]
)
def test_no_encryption(value: bytes) -> None:
    """The literal null, and the provider none in any case."""
    assert decode(value) is None


def test_names_are_read_in_any_case_and_unknown_fields_ignored() -> None:
    """As Go does; of a field given twice the last counts."""
    assert decode(MODERN_NODE_ID.swapcase().replace(b"NULL", b"null").replace(b"LUKS2", b"Luks2")) == NODE_ID
    assert decode(document(Other={"deep": [1]}, encryptionkeysize=0)) == NODE_ID
    twice = b'{"EncryptionCipher":"x",' + MODERN_NODE_ID[1:]
    assert decode(twice) == NODE_ID


def test_a_slot_that_is_missing_is_slot_0() -> None:
    """Go's zero value; Talos' own test data relies on it."""
    found = decode(document(EncryptionKeys=[{"KeyNodeID": {}}]))
    assert found == VolumeEncryption((ConfiguredKey(0, NodeIdKey()),))


@pytest.mark.parametrize(
    ("provider", "tpm", "pcrs"),
    [
        ("luks2", {}, None),
        ("luks2", {"TPMOptions": None}, None),
        ("luks2", {"TPMOptions": {}}, ()),
        ("luks2", {"TPMOptions": {"PCRs": None}}, ()),
        ("luks2", {"TPMOptions": {"PCRs": [11, 7]}}, (11, 7)),
        ("", {}, None),
        ("", {"TPMOptions": {"PCRs": [11]}}, None),
    ],
)
def test_pcrs_of_a_tpm_key(provider: str, tpm: dict[str, object], pcrs: tuple[int, ...] | None) -> None:
    """No options mean PCR 7 (None); options mean exactly their list; legacy knows no options."""
    found = decode(document(EncryptionProvider=provider, EncryptionKeys=[{"KeySlot": 0, "KeyTPM": tpm}]))
    assert found == VolumeEncryption((ConfiguredKey(0, TpmKey(pcrs)),))


def test_of_several_kinds_in_one_key_talos_order_decides() -> None:
    """static, nodeID, kms, tpm: as the writer that opens STATE with it."""
    kinds: dict[str, object] = {"KeyNodeID": {}, "KeyKMS": {"KMSEndpoint": "h"}, "KeyTPM": {}}
    for expected in (NodeIdKey(), KmsKey("h"), TpmKey()):
        assert decode(document(EncryptionKeys=[kinds])) == VolumeEncryption((ConfiguredKey(0, expected),))
        del kinds[next(iter(kinds))]


def test_half_a_surrogate_pair_is_replaced() -> None:
    """As Go reads it, so the passphrase is the same."""
    value = b'{"EncryptionProvider":"luks2","EncryptionKeys":[{"KeyStatic":{"KeyData":"a\\ud800b"}}]}'
    assert decode(value) == VolumeEncryption((ConfiguredKey(0, StaticKey(Secret.take("a\ufffdb".encode()))),))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"NaN", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"EncryptionKeySize":' + b"9" * 10_000 + b"}", "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "no keys"),
        (document(EncryptionProvider="luks3"), "neither luks2 nor none"),
        (document(EncryptionProvider=2), "not text"),
        (document(EncryptionKeys=None), "no keys"),
        (document(EncryptionKeys={}), "not a list"),
        (document(EncryptionKeys=[None]), "not an object"),
        (document(EncryptionKeys=[{}]), "of no known kind"),
        (document(EncryptionKeys=[{"KeyNodeID": []}]), "KeyNodeID is not an object"),
        (document(EncryptionKeys=[{"KeyNodeID": {}}] * 2), "same KeySlot"),
        (document(EncryptionKeys=[{"KeyNodeID": {}, "KeySlot": 32}]), "above 31"),
        (document(EncryptionKeys=[{"KeyNodeID": {}, "KeySlot": -1}]), "not a number"),
        (document(EncryptionKeys=[{"KeyNodeID": {}, "KeySlot": 1.0}]), "not a number"),
        (document(EncryptionKeys=[{"KeyNodeID": {}, "KeySlot": True}]), "not a number"),
        (document(EncryptionKeys=[{"KeyNodeID": {}, "KeyLockToSTATE": "yes"}]), "neither true nor false"),
        (document(EncryptionKeys=[{"KeyStatic": {"KeyData": ""}}]), "no passphrase"),
        (document(EncryptionKeys=[{"KeyKMS": {}}]), "no endpoint"),
        (document(EncryptionKeys=[{"KeyTPM": {"TPMOptions": {"PCRs": [24]}}}]), "PCR outside"),
        (document(EncryptionKeys=[{"KeyTPM": {"TPMOptions": {"PCRs": ["7"]}}}]), "PCR outside"),
        (document(EncryptionPerfOptions=["turbo"]), "does not have"),
        (document(EncryptionPerfOptions=[["no_read_workqueue"]]), "does not have"),
    ],
)
def test_an_unusable_document_is_explained(value: bytes, why: str) -> None:
    """Each mistake has its words; none becomes "not encrypted"."""
    with pytest.raises(MetaError, match=why):
        decode(value)


@given(st.binary(max_size=60) | documents)
def test_no_document_crashes_the_reader(value: bytes) -> None:
    """Hostile bytes give an encryption, None, or a MetaError."""
    try:
        found = decode(value)
    except MetaError as error:
        assert error.cause.startswith("tag 0x09")  # noqa: PT017  # which error it is is the question
    else:
        assert found is None or found.keys


def test_errors_hold_nothing_of_the_document() -> None:
    """Neither the message nor any error behind it carries the text with its passphrase."""
    with pytest.raises(MetaError) as caught:
        decode(b'{"EncryptionKeys":[{"KeyStatic":{"KeyData":"' + MARKER + b'"}')
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert shown_in(repr(caught.value.fields())) == []


def test_the_written_bytes_can_be_wiped_and_the_buffer_is() -> None:
    """Only the returned bytearray holds the passphrase; the buffer it was built in is zero."""
    text = GoJson(100)
    text.string(MARKER)
    buffer = text._buffer
    written = text.take()
    assert MARKER in written
    assert buffer.count(0) == len(buffer) == 100
