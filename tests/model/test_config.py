"""Wishes: what is asked of a volume, and what follows where nothing is said."""

from __future__ import annotations

import pytest

from luksctl.model.config import (
    CHEAPEST_KDF,
    EPHEMERAL,
    KDF_KINDS,
    STATE,
    ByLabel,
    ConfiguredKey,
    EncryptionPolicy,
    Filesystem,
    KdfCost,
    KeyKind,
    KeySource,
    KmsKey,
    MachineConfig,
    NodeIdKey,
    Settings,
    StaticKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.secret import Secret


def test_a_key_has_the_kind_of_its_source() -> None:
    """The kind is read from the source, and is Talos' word for it."""
    sources: list[KeySource] = [StaticKey(Secret.take(b"x")), NodeIdKey(), KmsKey("https://kms"), TpmKey()]
    assert [ConfiguredKey(0, source).kind for source in sources] == list(KeyKind)
    assert [kind.value for kind in KeyKind] == ["static", "nodeID", "kms", "tpm"]


def test_static_keys_are_equal_when_their_passphrases_are() -> None:
    """The wish "the same passphrase" is the same wish."""
    assert StaticKey(Secret.take(b"same")) == StaticKey(Secret.take(b"same"))
    assert StaticKey(Secret.take(b"same")) != StaticKey(Secret.take(b"other"))


def test_a_volume_nobody_named_is_wanted_plain() -> None:
    """No encryption in the config means none."""
    wanted = VolumeEncryption(keys=(ConfiguredKey(0, NodeIdKey()),))
    config = MachineConfig(text=b"", source="test", encryption=((STATE, wanted),))
    assert config.encryption_of(STATE) is wanted
    assert config.encryption_of(EPHEMERAL) is None


def test_filesystems_are_xfs_unless_the_policy_says_otherwise() -> None:
    """The policy speaks per volume."""
    policy = EncryptionPolicy(filesystems=((STATE, Filesystem.EXT4),))
    assert policy.filesystem(STATE) is Filesystem.EXT4
    assert policy.filesystem(EPHEMERAL) is Filesystem.XFS
    assert DesiredVolume(STATE, None, policy).filesystem is Filesystem.EXT4


def test_mapped_names_are_those_of_talos() -> None:
    """The /dev/mapper name is the volume's name behind luks2-."""
    assert DesiredVolume(EPHEMERAL, None, EncryptionPolicy()).mapped_name == "luks2-EPHEMERAL"


def test_settings_find_volumes_by_their_own_label() -> None:
    """Without a settings file each volume is the partition of its name."""
    settings = Settings()
    assert settings.volume(STATE).location == ByLabel("STATE")
    assert settings.volume(STATE).mount_point == "/system/state"
    with pytest.raises(KeyError):
        settings.volume("elsewhere")


def test_the_kdf_cost_follows_the_kind() -> None:
    """Random keys have nothing to stretch; what could be guessed costs the full price, as does what nobody knows."""
    full = KdfCost(5, 4096, 2)
    policy = EncryptionPolicy(kdf=full)
    assert {kind: policy.kdf_for(kind) for kind in KDF_KINDS} == {
        "static": full,
        "nodeID": full,
        "kms": CHEAPEST_KDF,
        "tpm": CHEAPEST_KDF,
        "recovery": CHEAPEST_KDF,
    }
    assert policy.kdf_for(KeyKind.TPM) == CHEAPEST_KDF
    assert policy.kdf_for("of tomorrow") == full


def test_a_kind_may_cost_what_the_policy_says() -> None:
    """The named cost counts, also for random keys."""
    named = KdfCost(6, 64, 1)
    policy = EncryptionPolicy(kdf_by_kind=(("tpm", named), ("static", CHEAPEST_KDF)))
    assert [policy.kdf_for(kind) for kind in ("tpm", "kms", "static")] == [named, CHEAPEST_KDF, CHEAPEST_KDF]
    assert policy.kdf_for("nodeID").memory_kib == 256 * 1024


def test_the_cheapest_kdf_is_at_the_bounds_of_the_library() -> None:
    """Lower costs are refused by libcryptsetup, so this is where cheap ends (LUKS2: t >= 4, m >= 32 KiB)."""
    assert (CHEAPEST_KDF.time, CHEAPEST_KDF.memory_kib, CHEAPEST_KDF.threads) == (4, 32, 1)
