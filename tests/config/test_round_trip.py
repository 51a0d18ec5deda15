"""Any encryption, written as YAML, is read back as the same values."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.config.documents import parse_machine_config
from luksctl.config.template import quote
from luksctl.model.config import (
    CIPHER_KEY_BITS,
    EPHEMERAL,
    MAX_SLOT,
    PERFORMANCE_OPTIONS,
    STATE,
    ConfiguredKey,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.secret import Secret

PLAIN_TEXT = "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkms: {allowPlaintext: true}\n"

FLAGS = st.sampled_from([None, True, False])
PASSPHRASES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
SOURCES = st.one_of(
    PASSPHRASES.map(lambda text: StaticKey(Secret.take(text.encode()))),
    st.just(NodeIdKey()),
    st.sampled_from(["kms", "grpc://10.0.0.1:4050", "https://[fe80::1]:443/path"]).map(KmsKey),
    st.builds(TpmKey, st.none() | st.sets(st.integers(0, 23)).map(sorted).map(tuple), FLAGS),
)


@st.composite
def encryptions(draw: st.DrawFn, *, v1alpha1: bool) -> VolumeEncryption:
    """Return an encryption that can be written in a VolumeConfig, or in systemDiskEncryption."""
    keys = []
    for slot in draw(st.sets(st.integers(0, MAX_SLOT), min_size=1, max_size=5)):
        source = draw(SOURCES)
        if v1alpha1 and isinstance(source, TpmKey):
            source = TpmKey(None, source.check_secureboot_on_enroll)
        keys.append(ConfiguredKey(slot, source, None if v1alpha1 else draw(FLAGS)))
    cipher = draw(st.sampled_from([None, *CIPHER_KEY_BITS]))
    return VolumeEncryption(
        keys=tuple(sorted(keys, key=lambda key: key.slot)),
        cipher=cipher,
        key_size_bits=draw(st.sampled_from([None, 256] if "adiantum" in (cipher or "") else [None, 256, 512])),
        block_size_bytes=draw(st.sampled_from([None, 512, 1024, 2048, 4096])),
        options=draw(st.none() | st.lists(st.sampled_from(PERFORMANCE_OPTIONS), unique=True).map(tuple)),
        allow_discards=None if v1alpha1 else draw(FLAGS),
    )


def _flow(fields: dict[str, object]) -> str:
    written = (f"{name}: {_value(value)}" for name, value in fields.items() if value is not None)
    return "{" + ", ".join(written) + "}"


def _value(value: object) -> str:
    match value:
        case str():
            return quote(value)
        case bool():
            return "true" if value else "false"
        case dict():
            return _flow(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return str(value)


def _key(key: ConfiguredKey) -> dict[str, object]:
    fields: dict[str, object] = {"slot": key.slot, "lockToState": key.lock_to_state}
    match key.source:
        case StaticKey(passphrase):
            with passphrase.view() as view:
                fields["static"] = {"passphrase": bytes(view).decode()}
        case NodeIdKey():
            fields["nodeID"] = {}
        case KmsKey(endpoint):
            fields["kms"] = {"endpoint": endpoint}
        case TpmKey(pcrs, secure_boot):
            options = None if pcrs is None else {"pcrs": pcrs}
            fields["tpm"] = {"options": options, "checkSecurebootStatusOnEnroll": secure_boot}
    return fields


def _encryption(encryption: VolumeEncryption, order: list[int]) -> str:
    keys = [_key(key) for key in encryption.keys]
    return _flow(
        {
            "provider": "luks2",
            "keys": sorted(keys, key=lambda key: order.index(int(str(key["slot"])))),
            "cipher": encryption.cipher,
            "keySize": encryption.key_size_bits,
            "blockSize": encryption.block_size_bytes,
            "options": encryption.options,
            "allowDiscards": encryption.allow_discards,
        }
    )


@given(encryptions(v1alpha1=False), st.permutations(range(MAX_SLOT + 1)))
@settings(deadline=None)
def test_volume_config(encryption: VolumeEncryption, order: list[int]) -> None:
    """A VolumeConfig gives back what was written, in whatever order the keys stand."""
    written = _encryption(encryption, order)
    text = f"apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption: {written}\n{PLAIN_TEXT}"
    assert parse_machine_config(text.encode(), "x").encryption == ((EPHEMERAL, encryption),)


@given(encryptions(v1alpha1=True), st.permutations(range(MAX_SLOT + 1)))
@settings(deadline=None)
def test_system_disk_encryption(encryption: VolumeEncryption, order: list[int]) -> None:
    """machine.systemDiskEncryption gives back what was written, in whatever order the keys stand."""
    text = f"machine: {{systemDiskEncryption: {{state: {_encryption(encryption, order)}}}}}\n{PLAIN_TEXT}"
    assert parse_machine_config(text.encode(), "x").encryption == ((STATE, encryption),)
