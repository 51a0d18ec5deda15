"""How real adapters are joined: what META counts as when it cannot be told, and what keys and derivations ask for."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from luksctl.devices.disks import SystemDisks
from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable, ProviderUnavailable, TpmRejected
from luksctl.meta.store import AdvStore
from luksctl.model.config import (
    CHEAPEST_KDF,
    EPHEMERAL,
    STATE,
    ByImage,
    ConfiguredKey,
    EncryptionPolicy,
    KdfCost,
    KmsKey,
    Settings,
    StaticKey,
    TpmKey,
    TpmPolicy,
    VolumeEncryption,
    VolumeSettings,
)
from luksctl.model.meta import TAG_UUID_OVERRIDE, MetaState
from luksctl.model.observed import Ambiguous, Missing
from luksctl.model.ports import HeaderFormat, KeyProvider
from luksctl.model.probe import Device
from luksctl.model.sealing import Vouching
from luksctl.node.located_meta import LocatedMeta
from luksctl.node.node import Node, Paths
from luksctl.providers.kms_token import write_token
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from luksctl.value import replace
from luksctl.wiring import build_node
from tests.providers.measured_boot import boot
from tests.providers.swtpm import Swtpm


class _Found:
    """Disks on which META is looked for, and this is found."""

    def __init__(self, found: Device | Missing | Ambiguous) -> None:
        self._found = found

    def find(self, *_: object, **__: object) -> Device | Missing | Ambiguous:
        return self._found

    def holds_lock_of(self, disk: str) -> bool:  # noqa: ARG002  # nobody formats here
        return False


@pytest.fixture
def unreadable(tmp_path: Path) -> Device:
    """Return a META from which nothing can be read: a directory stands in for a disk that gives errors only."""
    return Device(str(tmp_path), 1 << 20, disk=str(tmp_path))


def _meta(found: Device | Missing | Ambiguous) -> LocatedMeta:
    return LocatedMeta(Settings(), cast("SystemDisks", _Found(found)), "/run/luksctl")


def test_two_metas_are_not_a_missing_one() -> None:
    """One of them may say that STATE is encrypted: then nothing is formatted, and nothing plain is mounted."""
    facts = _meta(Ambiguous(("/dev/vda1", "/dev/vdb1"), "2 partitions are labelled 'META'")).load()
    assert facts.state is MetaState.UNREADABLE
    assert not facts.readable
    assert facts.problem == "2 partitions are labelled 'META': /dev/vda1, /dev/vdb1"


def test_a_meta_that_gives_errors_only_is_unreadable_and_keeps_nobody_from_opening(unreadable: Device) -> None:
    """The config at hand still opens its volumes; only formatting needs META."""
    facts = _meta(unreadable).load()
    assert facts.state is MetaState.UNREADABLE
    assert facts.problem is not None
    assert unreadable.path in facts.problem


def test_a_meta_that_is_not_there_is_absent() -> None:
    """It may still come, and says what was looked for."""
    facts = _meta(Missing("a partition labelled 'META'")).load()
    assert (facts.state, facts.problem) == (MetaState.ABSENT, "no device found (a partition labelled 'META')")


def test_keys_go_by_what_was_read_last(tmp_path: Path) -> None:
    """What a plan was made from is what its keys are made from; the next look reads META anew."""
    image = tmp_path / "META"
    store = AdvStore(str(image), f"{image}.lock", create=True)
    store.write_tag(TAG_UUID_OVERRIDE, b"before")
    meta = _meta(Device(str(image), MIB, image=True))
    assert meta.latest().uuid_override == "before"
    store.write_tag(TAG_UUID_OVERRIDE, b"after")
    assert meta.latest().uuid_override == "before"
    assert meta.load().uuid_override == "after"
    assert meta.latest().uuid_override == "after"


def _node(directory: Path) -> Node:
    paths = Paths(str(directory / "run"), str(directory / "machine.yaml"), (), str(directory / "expected.json"))
    where = VolumeSettings(ByImage(str(directory / "state.img")), str(directory / "mnt"))
    return build_node(Settings(((STATE, where),)), lambda _: None, paths)


def test_a_key_that_is_locked_to_state_waits_for_its_mount(tmp_path: Path) -> None:
    """The salt is asked of the node that was built, when a key needs it and not before."""
    key = ConfiguredKey(1, StaticKey(Secret.take(b"pw")), lock_to_state=True)
    provider = _node(tmp_path).ports.provider(key)
    with pytest.raises(ProviderUnavailable, match="STATE is not mounted"):
        provider.make(EPHEMERAL, key)


def test_key_derivations_reserve_their_memory(tmp_path: Path) -> None:
    """All processes of this machine meet at one lock file."""
    node, image = _node(tmp_path), tmp_path / "volume.img"
    with image.open("xb") as target:
        target.truncate(32 * MIB)
    device = Device(str(image), 32 * MIB, image=True)
    how = HeaderFormat("11111111-1111-4111-8111-111111111111", "", VolumeEncryption(()), talos_readable=True)
    lock = tmp_path / "run" / "kdf-memory.lock"
    with Secret.random(64) as volume_key, Secret.take(b"pw") as key:
        node.ports.headers.format(device, how, volume_key)
        node.ports.headers.add_keyslot(device, 0, key, volume_key, CHEAPEST_KDF)
        assert not lock.exists()
        node.ports.headers.add_keyslot(device, 1, key, volume_key, KdfCost(4, 2 * KIB, 1))
    assert lock.exists()


def test_a_tpm_key_goes_by_the_policy_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One TPM for all, opened when it is needed; the policy of the wish counts, and without one that of the config."""
    key = ConfiguredKey(0, TpmKey())
    config = tmp_path / "machine.yaml"
    config.write_text("apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\ntpm: {publicKeys: [/from/the/config]}\n")
    with Swtpm() as tpm:
        boot(tpm)
        monkeypatch.setattr("luksctl.providers.tpm_run.TpmConnection", lambda: TpmConnection(tpm.tcti))
        ports = _node(tmp_path).ports
        other = ports.under(EncryptionPolicy(tpm=TpmPolicy(literal_pcrs=True)))
        made = other.provider(key).make(EPHEMERAL, key)
        (candidate,) = ports.provider(key).recover(EPHEMERAL, key, made.token)
        assert candidate == made.key
        with pytest.raises(TpmRejected, match="/from/the/config: there is no such file"):
            ports.provider(key).make(EPHEMERAL, key)
        assert other.vouching(key, made.token).policy is not None
        with pytest.raises(TpmRejected, match="/from/the/config"):
            ports.vouching(key, made.token)
        back = other.under(EncryptionPolicy(tpm=TpmPolicy(public_keys=("/from/elsewhere",))))
        with pytest.raises(TpmRejected, match="/from/elsewhere"):
            back.provider(key).make(EPHEMERAL, key)
    assert ports.vouching(ConfiguredKey(1, StaticKey(Secret.take(b"pw"))), None) == Vouching()


def test_before_there_is_a_network_no_kms_is_asked(tmp_path: Path) -> None:
    """And the node knows that something was left to do; with a network it is asked."""
    key = ConfiguredKey(0, KmsKey("https://127.0.0.1:1"))
    paths = Paths(str(tmp_path / "run"), str(tmp_path / "machine.yaml"), (), str(tmp_path / "expected.json"))
    early, late = (build_node(Settings(), lambda _: None, paths, network=network) for network in (False, True))
    assert not early.left_for_network()
    with pytest.raises(KmsUnavailable) as caught:
        early.ports.provider(key).make(STATE, key)
    assert caught.value.reason is KmsReason.NETWORK_LATER
    assert early.left_for_network()
    assert early.ports.under(EncryptionPolicy()).provider(key).explain_rejection(STATE, key) is None
    with pytest.raises((KmsUnavailable, KmsRejected)) as asked:
        next(late.ports.provider(key).recover(STATE, key, write_token(b"sealed")))
    assert KmsReason.NETWORK_LATER.value not in str(asked.value.fields())
    assert not late.left_for_network()


def test_a_provider_in_the_place_of_ours_stays_under_any_policy(tmp_path: Path) -> None:
    """Whoever replaced it knows better."""
    ours = _node(tmp_path).ports
    assert replace(ours, provider=_no_provider).under(EncryptionPolicy()).provider is _no_provider


def _no_provider(key: ConfiguredKey) -> KeyProvider:
    raise AssertionError(key)
