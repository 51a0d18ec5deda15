"""What a valid machine config means, as values."""

from __future__ import annotations

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.model.config import (
    CHEAPEST_KDF,
    DEFAULT_KDF,
    EPHEMERAL,
    KDF_KINDS,
    STATE,
    ConfiguredKey,
    EncryptionPolicy,
    Filesystem,
    FormatRequires,
    KdfCost,
    KmsKey,
    NodeIdKey,
    Reseal,
    StaticKey,
    TpmKey,
    TpmPolicy,
    VolumeEncryption,
)
from luksctl.secret import Secret
from tests.config.reading import one_key, parse, volume_config, yaml

NODE_ID_IN_SLOT_0 = VolumeEncryption((ConfiguredKey(0, NodeIdKey()),))


def _only_key(text: str) -> ConfiguredKey:
    encryption = parse(text).encryption_of(EPHEMERAL)
    assert encryption is not None
    assert len(encryption.keys) == 1
    return encryption.keys[0]


def test_system_disk_encryption_of_a_machine_configuration() -> None:
    """Both volumes of machine.systemDiskEncryption are read; provider luks2, empty and absent mean the same."""
    for provider in ("provider: luks2", "provider: ''", "provider:", "options: []"):
        config = parse(
            f"""
            version: v1alpha1
            machine:
              type: worker
              systemDiskEncryption:
                state:
                  {provider}
                  keys: [{{slot: 0, nodeID: {{}}}}]
                ephemeral:
                  keys:
                    - slot: 0
                      nodeID: {{}}
            """
        )
        assert [volume for volume, _ in config.encryption] == [STATE, EPHEMERAL]
        assert config.encryption_of(EPHEMERAL) == NODE_ID_IN_SLOT_0


def test_volume_config_with_every_field() -> None:
    """Each field of the encryption block arrives in the value it stands for."""
    config = parse(
        """
        apiVersion: v1alpha1
        kind: VolumeConfig
        name: EPHEMERAL
        provisioning:
          grow: true
        encryption:
          provider: luks2
          cipher: xchacha20,aes-adiantum-plain64
          keySize: 256
          blockSize: 4096
          options: [no_read_workqueue, same_cpu_crypt]
          allowDiscards: true
          keys:
            - slot: 31
              tpm: {checkSecurebootStatusOnEnroll: true, options: {pcrs: [1, 7]}}
              lockToState: true
            - slot: 4
              kms: {endpoint: "https://kms.example.com:4050"}
              lockToState: false
            - slot: 0
              static: {passphrase: geheim ü}
        """
    )
    assert config.encryption_of(STATE) is None
    assert config.encryption_of(EPHEMERAL) == VolumeEncryption(
        keys=(
            ConfiguredKey(0, StaticKey(Secret.take("geheim ü".encode()))),
            ConfiguredKey(4, KmsKey("https://kms.example.com:4050"), lock_to_state=False),
            ConfiguredKey(31, TpmKey((1, 7), check_secureboot_on_enroll=True), lock_to_state=True),
        ),
        cipher="xchacha20,aes-adiantum-plain64",
        key_size_bits=256,
        block_size_bytes=4096,
        options=("no_read_workqueue", "same_cpu_crypt"),
        allow_discards=True,
    )


def test_zero_and_empty_mean_the_default() -> None:
    """Talos writes 0 and empty text for "not given", and so they are read."""
    text = volume_config("{provider: luks2, cipher: '', keySize: 0, blockSize: 0, keys: [{slot: 0, nodeID: {}}]}")
    assert parse(text).encryption_of(EPHEMERAL) == NODE_ID_IN_SLOT_0


def test_provider_none_is_plain() -> None:
    """A VolumeConfig may say outright that it wants no encryption."""
    assert parse(volume_config("{provider: none}")).encryption == ()


def test_a_config_without_encryption_is_plain() -> None:
    """A machine configuration that does not mention encryption wants none."""
    config = parse("machine: {type: worker}\ncluster: null\n")
    assert config.encryption == ()
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("tpm", "pcrs"),
    [
        ("{}", None),
        ("{options: null}", None),
        ("{options: {}}", ()),
        ("{options: {pcrs: []}}", ()),
        ("{options: {pcrs: [23, 0, 7, 7]}}", (0, 7, 23)),
    ],
)
def test_pcrs_of_a_tpm_key(tpm: str, pcrs: tuple[int, ...] | None) -> None:
    """No options is Talos' default list, options without pcrs binds to none, and a list is sorted, each PCR once."""
    assert _only_key(one_key(f"{{slot: 0, tpm: {tpm}}}")).source == TpmKey(pcrs)


@pytest.mark.parametrize(
    ("scalar", "passphrase"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("2026-01-02", "2026-01-02"),
        ("12:30:45", "12:30:45"),
        ("'1234'", "1234"),
        ('"null"', "null"),
        ("!!str 1234", "1234"),
        ('"tab\\tand \\u00fc"', "tab\tand ü"),
        ("'  spaces  '", "  spaces  "),
        ("it''s", "it''s"),
        ("'it''s'", "it's"),
    ],
)
def test_a_passphrase_is_the_text_that_yaml_1_2_reads(scalar: str, passphrase: str) -> None:
    """Words that YAML 1.1 takes for flags, numbers or dates are text; quotes and escapes are taken off."""
    text = f"{one_key('slot: 0')}      static:\n        passphrase: {scalar}\n"
    assert _only_key(text).source == StaticKey(Secret.take(passphrase.encode()))


def test_the_submitted_bytes_are_kept() -> None:
    """Comments, order, line ends and unknown documents are part of `text`, byte for byte."""
    other = b"apiVersion: x/v1\nkind: Other\nname: 12\nat: [1,\t2]\n...\n"
    text = b"\xef\xbb\xbf# hi\r\nmachine: {b: 1, a: on}\r\n---\n" + other
    config = parse_machine_config(text, "here")
    assert config.text == text
    assert config.source == "here"


def test_what_is_not_about_encryption_is_carried() -> None:
    """Foreign sections and documents are not checked beyond YAML, and null documents are skipped."""
    config = parse(
        """
        ---
        machine:
          network: {keys: [{slot: 0}], encryption: whatever}
          ? [a, b]
          : complex key
        ---
        ---
        apiVersion: v1alpha1
        kind: SideroLinkConfig
        apiUrl: grpc://siderolink
        ---
        apiVersion: v1alpha1
        kind: ExistingVolumeConfig
        name: data
        encryption: 12
        """
    )
    assert config.encryption == ()


def test_user_volumes_are_checked_and_carried() -> None:
    """Raw, swap and user volumes may be encrypted; they are not ours, and the config says so in a warning."""
    config = parse(
        """
        apiVersion: v1alpha1
        kind: UserVolumeConfig
        name: data
        volumeType: disk
        encryption: {provider: luks2, keys: [{slot: 0, kms: {endpoint: https://kms:4050}}]}
        ---
        apiVersion: v1alpha1
        kind: RawVolumeConfig
        name: data
        ---
        apiVersion: v1alpha1
        kind: SwapVolumeConfig
        name: data
        encryption: {provider: luks2, keys: [{slot: 0, kms: {endpoint: https://kms:4050}}]}
        ---
        apiVersion: v1alpha1
        kind: UserVolumeConfig
        name: dir
        volumeType: directory
        """
    )
    assert config.encryption == ()
    assert [warning.partition(":")[0] for warning in config.warnings] == ["u-data", "s-data"]


def test_aliases_and_merge_keys() -> None:
    """A key list may be shared by alias; what `<<` merges counts, and what stands beside it wins."""
    config = parse(
        """
        machine:
          <<: &base
            systemDiskEncryption:
              state: &state
                cipher: aes-xts-plain64
                keys: &keys [{slot: 0, nodeID: {}}]
              ephemeral:
                <<: [*state, {blockSize: 512}]
                keySize: 256
                cipher: ''
        """
    )
    assert config.encryption_of(STATE) == VolumeEncryption((ConfiguredKey(0, NodeIdKey()),), cipher="aes-xts-plain64")
    assert config.encryption_of(EPHEMERAL) == VolumeEncryption(
        (ConfiguredKey(0, NodeIdKey()),), key_size_bits=256, block_size_bytes=512
    )


def test_policy_with_every_field() -> None:
    """Each field of the EncryptionPolicy document arrives in the value it stands for."""
    config = parse(
        """
        apiVersion: luksctl/v1alpha1
        kind: EncryptionPolicy
        kdf: {time: 5, memory: 64 MiB, threads: 4}
        formatRequires: all
        prune: true
        talosReadable: false
        filesystems: {EPHEMERAL: ext4}
        tpm: {reseal: ask, publicKeys: [/etc/a.pem], signatures: [/etc/a.json, /etc/b.json]}
        """
    )
    assert config.policy == EncryptionPolicy(
        kdf=KdfCost(5, 64 * 1024, 4),
        format_requires=FormatRequires.ALL,
        prune=True,
        talos_readable=False,
        filesystems=((EPHEMERAL, Filesystem.EXT4),),
        tpm=TpmPolicy(Reseal.ASK, public_keys=("/etc/a.pem",), signatures=("/etc/a.json", "/etc/b.json")),
    )
    assert config.policy.filesystem(STATE) is Filesystem.XFS


def test_policy_fields_left_out_keep_their_defaults() -> None:
    """An empty policy is the default policy, and a kdf with one field keeps the others."""
    head = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\n"
    assert parse(head).policy == EncryptionPolicy()
    assert parse(head + "tpm: {literalPCRs: true}\n").policy.tpm == TpmPolicy(Reseal.AUTO, literal_pcrs=True)
    assert parse(head + "kdf: {time: 9}\n").policy.kdf == KdfCost(9, DEFAULT_KDF.memory_kib, DEFAULT_KDF.threads)


def test_kdf_costs_by_kind() -> None:
    """A kind that is named costs what stands there, and for the rest what its kind costs otherwise."""
    config = parse(
        """
        apiVersion: luksctl/v1alpha1
        kind: EncryptionPolicy
        kdf: {time: 5, memory: 64MiB}
        kdfByKind:
          nodeID: {memory: 16MiB}
          kms: {time: 6}
          recovery: {memory: 1GiB, threads: 4}
        """
    )
    kms = KdfCost(6, CHEAPEST_KDF.memory_kib, CHEAPEST_KDF.threads)
    costs = {kind: config.policy.kdf_for(kind) for kind in KDF_KINDS}
    assert costs == {
        "static": KdfCost(5, 64 * 1024, DEFAULT_KDF.threads),
        "nodeID": KdfCost(5, 16 * 1024, DEFAULT_KDF.threads),
        "kms": kms,
        "tpm": CHEAPEST_KDF,
        "recovery": KdfCost(CHEAPEST_KDF.time, 1024 * 1024, 4),
    }


def test_the_spelling_of_the_documentation_locks_too() -> None:
    """Talos' documentation writes lockToSTATE; read for nothing, it would leave a key unlocked."""
    assert _only_key(one_key("{slot: 3, nodeID: {}, lockToSTATE: true}")).lock_to_state is True
    assert _only_key(one_key("{slot: 3, nodeID: {}, lockToSTATE: false}")).lock_to_state is False


def test_no_secret_in_the_repr() -> None:
    """Printing a config shows neither its text nor a passphrase."""
    config = parse(one_key("{slot: 0, static: {passphrase: marker-secret}}"))
    assert "marker-secret" not in repr(config)
    assert b"marker-secret" in config.text


def test_json_is_yaml() -> None:
    """A config may be written as JSON."""
    text = b'{"machine":{"systemDiskEncryption":{"ephemeral":{"keys":[{"slot":0,"nodeID":{}}]}}}}'
    assert parse_machine_config(text, "x").encryption_of(EPHEMERAL) == NODE_ID_IN_SLOT_0


def test_yaml_helper_keeps_lines() -> None:
    """The first line of a test's text is line 1."""
    assert yaml("\n    a\n      b\n") == b"a\n  b\n"
