"""Slots that are locked to STATE, on real headers: they open beside their STATE, and beside no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device as LuksDevice
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.errors import KeyRejected, ProviderUnavailable, TokenInvalid
from luksctl.model.config import CHEAPEST_KDF, EPHEMERAL, ConfiguredKey, KeyKind, NodeIdKey, StaticKey, VolumeEncryption
from luksctl.model.ports import HeaderFormat
from luksctl.model.probe import Device
from luksctl.node.salt import FILE_NAME, StateSalt
from luksctl.providers.node_id import NodeIdProvider
from luksctl.providers.registry import Registry
from luksctl.providers.static import StaticProvider
from luksctl.reconcile.keys import try_key
from luksctl.secret import Secret
from luksctl.units import MIB

UUID = "12345678-1234-5678-1234-567812345678"
NODE_ID = ConfiguredKey(0, NodeIdKey(), lock_to_state=True)
STATIC = ConfiguredKey(1, StaticKey(Secret.take(b"correct horse")), lock_to_state=True)
SALT_WITH_NEWLINE = "diskSalt:\n" + "".join(f"    - {number}\n" for number in range(32))


def _registry(state: Path | None) -> Registry:
    salts = StateSalt(lambda: None if state is None else str(state), lambda _: None)
    return Registry(
        {KeyKind.STATIC: StaticProvider(), KeyKind.NODE_ID: NodeIdProvider(lambda: UUID)},
        lambda: salts,
    )


def _opens(device: Device, key: ConfiguredKey, state: Path | None) -> None:
    """Try the key at its slot as the pipe does."""
    headers = LuksHeaders(medium.read)
    provider = _registry(state)(key)
    try_key(EPHEMERAL, key, None, provider, lambda candidate: headers.test_key(device, key.slot, candidate))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a mounted STATE without a salt."""
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


@pytest.fixture
def volume_key() -> Secret:
    """Return the volume key of `ephemeral`."""
    return Secret.random(64)


@pytest.fixture
def ephemeral(tmp_path: Path, volume_key: Secret) -> Device:
    """Return a volume without keyslots."""
    path = tmp_path / "ephemeral.img"
    with path.open("xb") as target:
        target.truncate(32 * MIB)
    device = Device(str(path), 32 * MIB, image=True)
    how = HeaderFormat("11111111-1111-4111-8111-111111111111", "", VolumeEncryption(()), talos_readable=True)
    LuksHeaders(medium.read).format(device, how, volume_key)
    return device


@pytest.fixture
def locked(ephemeral: Device, volume_key: Secret, state: Path) -> Device:
    """Return the volume with both keys, locked to `state`."""
    for key in (NODE_ID, STATIC):
        with _registry(state)(key).make(EPHEMERAL, key).key as made:
            LuksHeaders(medium.read).add_keyslot(ephemeral, key.slot, made, volume_key, CHEAPEST_KDF)
    return ephemeral


def test_slots_open_beside_their_state(locked: Device, state: Path) -> None:
    """The first key made the salt, and the second took the same one."""
    assert [path.name for path in state.iterdir()] == [FILE_NAME]
    for key in (NODE_ID, STATIC):
        _opens(locked, key, state)


def test_slots_open_beside_no_other_state(locked: Device, tmp_path: Path) -> None:
    """A STATE that was put there instead has another salt, and the error says what that means."""
    other = tmp_path / "other"
    other.mkdir()
    StateSalt(lambda: str(other), lambda _: None).existing_or_new().close()
    for key in (NODE_ID, STATIC):
        with pytest.raises(KeyRejected, match="STATE's salt is not the one"):
            _opens(locked, key, other)


def test_without_the_salt_no_slot_opens_and_none_is_made(locked: Device, state: Path) -> None:
    """Whether STATE is not mounted, or its salt is gone: told apart, because only one of them may pass."""
    with pytest.raises(ProviderUnavailable, match="not mounted"):
        _opens(locked, STATIC, None)
    (state / FILE_NAME).unlink()
    with pytest.raises(TokenInvalid, match="no salt in STATE"):
        _opens(locked, STATIC, state)
    assert list(state.iterdir()) == []


def test_the_key_without_the_salt_opens_nothing(locked: Device) -> None:
    """Whoever has the disk and the passphrase lacks STATE."""
    unlocked = ConfiguredKey(1, StaticKey(Secret.take(b"correct horse")))
    with pytest.raises(KeyRejected):
        _opens(locked, unlocked, None)


@pytest.mark.parametrize("key", [NODE_ID, STATIC])
def test_a_slot_that_old_talos_cut_off_opens(
    ephemeral: Device, volume_key: Secret, state: Path, key: ConfiguredKey
) -> None:
    """Talos before 1.12.5 added a key as one line: the salt counts up to its first newline."""
    (state / FILE_NAME).write_text(SALT_WITH_NEWLINE)
    with _registry(state)(key).make(EPHEMERAL, key).key as made, made.view() as view:
        line = bytes(view).partition(b"\n")[0]
    with LuksDevice.open(ephemeral.path) as luks, Secret.take(line) as stored:
        luks.keyslots.add_by_volume_key(key.slot, stored, volume_key, CHEAPEST_KDF)
    _opens(ephemeral, key, state)
