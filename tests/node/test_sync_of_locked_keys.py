"""Keyslots that come to be locked to STATE, and those whose salt was lost: the whole pipe over real headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import Locked, SlotPassphraseRejected
from luksctl.model.config import CHEAPEST_KDF, EPHEMERAL, ConfiguredKey, EncryptionPolicy, KeyKind, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.ports import Ports
from luksctl.model.probe import Device
from luksctl.node.salt import FILE_NAME, StateSalt
from luksctl.providers.node_id import NodeIdProvider
from luksctl.providers.registry import Registry
from luksctl.providers.static import StaticProvider
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.images import IMAGE_BYTES, NODE_UUID, Node
from tests.reconcile.providers import encrypted, node_id, static

FIRST, SECOND = static(0, b"first"), static(1, b"second")
UNLOCKED = encrypted(FIRST, SECOND)
ONE_LOCKED = encrypted(FIRST, replace(SECOND, lock_to_state=True))


class Place:
    """A volume, and the directory where STATE is mounted."""

    def __init__(self, directory: Path) -> None:
        self.node = Node(directory)
        self.state = directory / "mounted"
        self.state.mkdir()
        self.told: list[str] = []

    @property
    def ports(self) -> Ports:
        """Return the ports of the node, with providers that know STATE."""
        salts = StateSalt(lambda: str(self.state), self.told.append)
        registry = Registry(
            {KeyKind.STATIC: StaticProvider(), KeyKind.NODE_ID: NodeIdProvider(lambda: NODE_UUID)}, lambda: salts
        )
        return replace(self.node.ports, provider=registry)

    def boot(self, encryption: VolumeEncryption, before: VolumeEncryption | None = None) -> list[str]:
        """Reboot, open and sync; return the names of the steps."""
        self.node.reboot()
        fallback = () if before is None else (before,)
        wish = DesiredVolume(EPHEMERAL, encryption, EncryptionPolicy(kdf=CHEAPEST_KDF), sync=True, fallback=fallback)
        return [type(done.step).__name__ for done in converge(wish, self.node.volume_settings, self.ports)]

    def opens(self, slot: int, passphrase: bytes) -> bool:
        """Tell whether these very bytes open the slot."""
        device = Device(str(self.node.state), IMAGE_BYTES, image=True)
        try:
            with Secret.take(passphrase) as key:
                self.ports.headers.test_key(device, slot, key)
        except SlotPassphraseRejected:
            return False
        return True

    def salt(self) -> bytes:
        """Return the salt in STATE, as the file has it."""
        lines = (self.state / FILE_NAME).read_text().splitlines()
        return bytes(int(line.removeprefix("    - ")) for line in lines[1:])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a blank volume beside a STATE without a salt."""
    return Place(tmp_path)


def locked(key: ConfiguredKey) -> ConfiguredKey:
    """Return the key, locked to STATE."""
    return replace(key, lock_to_state=True)


def test_a_volume_is_formatted_with_locked_keys_and_stays_in_sync(place: Place) -> None:
    """The first key makes the salt; the next boot finds nothing to do."""
    wish = encrypted(locked(FIRST), locked(node_id(4)))
    place.boot(wish)
    assert len(place.told) == 1
    assert place.opens(0, b"first" + place.salt())
    assert place.opens(4, NODE_UUID.encode() + b"EPHEMERAL" + place.salt())
    assert not place.opens(0, b"first")
    before = place.node.bytes_on_disk()
    assert place.boot(wish) == ["OpenVolume"]
    assert place.node.bytes_on_disk() == before


def test_a_slot_is_locked_where_nothing_was_before(place: Place) -> None:
    """The config says lockToState for a slot that is there: a salt is made, and the slot anew."""
    place.boot(UNLOCKED)
    assert not (place.state / FILE_NAME).exists()
    place.boot(ONE_LOCKED)
    assert place.opens(0, b"first")
    assert place.opens(1, b"second" + place.salt())
    assert not place.opens(1, b"second")
    assert place.boot(ONE_LOCKED) == ["OpenVolume"]


def test_the_only_key_is_locked_in_one_step(place: Place) -> None:
    """What opens it is the key of the config before, which serves until the change is done."""
    before, after = encrypted(FIRST), encrypted(locked(FIRST))
    place.boot(before)
    place.boot(after, before)
    assert place.opens(0, b"first" + place.salt())
    assert not place.opens(0, b"first")
    assert place.boot(after) == ["OpenVolume"]


def test_a_slot_is_unlocked_again(place: Place) -> None:
    """Taking lockToState out leaves the salt where it is: other slots may be locked to it."""
    place.boot(ONE_LOCKED)
    salt = place.salt()
    place.boot(UNLOCKED)
    assert place.opens(1, b"second")
    assert not place.opens(1, b"second" + salt)
    assert place.salt() == salt


def test_a_lost_salt_is_made_anew_where_another_key_opens(place: Place) -> None:
    """Nothing can open the slot any more; with the volume open, it is made again, and said."""
    place.boot(ONE_LOCKED)
    lost = place.salt()
    (place.state / FILE_NAME).unlink()
    place.told.clear()
    place.boot(ONE_LOCKED)
    assert len(place.told) == 1
    assert place.salt() != lost
    assert place.opens(1, b"second" + place.salt())
    assert not place.opens(1, b"second" + lost)
    assert place.boot(ONE_LOCKED) == ["OpenVolume"]


def test_a_lost_salt_locks_where_every_key_needs_it(place: Place) -> None:
    """The error says what is missing; nothing is written, and no salt is made that opens nothing."""
    wish = encrypted(locked(FIRST), locked(SECOND))
    place.boot(wish)
    kept = (place.state / FILE_NAME).read_bytes()
    (place.state / FILE_NAME).unlink()
    before = place.node.bytes_on_disk()
    with pytest.raises(Locked, match="there is no salt in STATE") as caught:
        place.boot(wish)
    assert "backup" in (caught.value.hint or "")
    assert list(place.state.iterdir()) == []
    assert place.node.bytes_on_disk() == before
    (place.state / FILE_NAME).write_bytes(kept)
    assert place.boot(wish) == ["OpenVolume"]
