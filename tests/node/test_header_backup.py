"""Header backups that a node keeps by itself: before a keyslot is removed, encrypted, and only until all is in sync."""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path

import pytest

from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.errors import CryptsetupError
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.probe import Device
from luksctl.node.boot import open_volume
from luksctl.node.header_backup import drop_backups, drop_proven, keep_before_removal, kept_backups
from luksctl.node.header_restore import Allowed, look_at, restore
from luksctl.node.report import Report, VolumeState, read_report, write_report
from luksctl.node.sources import HEADER_BACKUPS
from luksctl.node.sync import adopt, sync
from luksctl.node.waiting import Deadline
from luksctl.providers.sealed_header import open_sealed_header
from luksctl.value import replace
from tests.node.image_node import POLICY, ImageNode, document, static
from tests.providers.operators import operator
from tests.providers.stock import opens

ALL = (STATE, EPHEMERAL)


class Removing(LuksHeaders):
    """Headers that keep backups, and may lose power when a keyslot is destroyed."""

    cut = False

    def remove_keyslot(self, device: Device, slot: int) -> None:
        """Destroy it, or only do what comes before."""
        if not self.cut:
            super().remove_keyslot(device, slot)
            return
        assert self._before_removal is not None
        self._before_removal(device)
        raise CryptsetupError("power went", errno=5)


class Keeping(ImageNode):
    """A running node whose two volumes are ours, each with slots 0 and 1, and whose policy names an operator."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.system.memory = 1024
        self.removing = Removing(medium.read)
        self.node = replace(self.node, ports=replace(self.node.ports, headers=self.removing))
        self.removing._before_removal = partial(keep_before_removal, self.node)
        self.want("one", "two")
        for volume in ALL:
            self.format(volume, {0: "one", 1: "two"})
            self.open(volume)
            adopt(self.node, volume)
            write_report(self.node, Report(volume, VolumeState.OPEN, in_sync=True))
        self.follow_in_meta()

    def want(self, *passphrases: str, recipient: bytes | None = None) -> None:
        """Make these the keys of both volumes, in slots from 0 on, and the recipient the policy's."""
        key = operator("x25519").public_pem() if recipient is None else recipient
        text = "".join(f"    {line}\n" for line in key.decode().splitlines())
        keys = [static(slot, passphrase) for slot, passphrase in enumerate(passphrases)]
        backup = f"headerBackup:\n  recipient: |\n{text}" if key else ""
        documents = (*(document(volume, *keys) for volume in ALL), POLICY + backup)
        (self.state / "config.yaml").write_text("---\n".join(documents), encoding="utf-8")

    def names(self) -> list[str]:
        """Return the files that are kept."""
        return [Path(kept.path).name for kept in kept_backups(self.node)]


@pytest.fixture
def node(tmp_path: Path) -> Keeping:
    """Return such a node."""
    return Keeping(tmp_path)


def test_a_backup_is_kept_while_a_removal_is_not_proven(node: Keeping) -> None:
    """It is from before the removal, for the operator alone, and brings the slot back."""
    node.want("one")
    node.removing.cut = True
    with pytest.raises(CryptsetupError):
        sync(node.node, (EPHEMERAL,))
    (kept,) = kept_backups(node.node)
    assert kept.document is not None
    assert kept.volume == EPHEMERAL
    assert kept.document.place.slots == (0, 1)
    assert stat.S_IMODE(Path(kept.path).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(kept.path).parent.stat().st_mode) == 0o700
    content = open_sealed_header(kept.document, operator("x25519").identity())
    node.replace_key(EPHEMERAL, 1, "two", "three")
    allowed = Allowed(while_open=True)
    restore(node.node, look_at(node.node, EPHEMERAL, content, allowed), content, allowed)
    assert opens(node.images[EPHEMERAL], b"two")


@pytest.mark.parametrize("volume", ALL)
def test_it_is_dropped_once_all_is_in_sync(node: Keeping, volume: str) -> None:
    """The run that was cut leaves one, the next one keeps no second, and drops it at its end."""
    node.want("one")
    node.removing.cut = True
    for _ in range(2):
        with pytest.raises(CryptsetupError):
            sync(node.node, (volume,))
    assert [name.partition("-")[0] for name in node.names()] == [volume]
    node.removing.cut = False
    assert all(found.in_sync for found in sync(node.node, (volume,)))
    assert node.names() == []
    assert not (node.state / HEADER_BACKUPS).exists()
    assert not opens(node.images[volume], b"two")
    assert any("a backup of its header is kept in" in line for line in node.told)


def test_a_boot_drops_it_too(node: Keeping) -> None:
    """Where a cut came after the last removal, and before anybody could drop it."""
    node.want("one")
    node.removing.cut = True
    with pytest.raises(CryptsetupError):
        sync(node.node, (STATE,))
    node.want("one", "two")
    sync(node.node, ALL, dry_run=True)
    assert len(node.names()) == 1
    report = read_report(node.node, STATE)
    assert report is not None
    write_report(node.node, replace(report, in_sync=True))
    open_volume(node.node, EPHEMERAL, Deadline(node.node, 0))
    assert node.names() == []


def test_one_that_is_not_in_sync_keeps_its_backup(node: Keeping) -> None:
    """Nothing is dropped of a volume whose change did not end."""
    node.want("one")
    node.removing.cut = True
    with pytest.raises(CryptsetupError):
        sync(node.node, (EPHEMERAL,))
    assert drop_proven(node.node) == ()
    assert len(drop_backups(node.node, STATE)) == 0
    assert len(drop_backups(node.node, EPHEMERAL)) == 1


def test_without_a_recipient_nothing_is_kept(node: Keeping) -> None:
    """Encrypted, or not at all."""
    node.want("one", recipient=b"")
    node.removing.cut = True
    with pytest.raises(CryptsetupError):
        sync(node.node, (EPHEMERAL,))
    assert node.names() == []
    assert not (node.state / HEADER_BACKUPS).exists()


def test_a_backup_that_cannot_be_kept_stops_no_sync(node: Keeping) -> None:
    """A key that can only sign: the slot goes all the same, and the failure is told."""
    node.want("one", recipient=b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert all(found.in_sync for found in sync(node.node, (EPHEMERAL,)))
    assert not opens(node.images[EPHEMERAL], b"two")
    assert any("no backup of its header was kept" in line for line in node.told)


def test_a_state_that_takes_no_file_stops_no_sync(node: Keeping) -> None:
    """Something else has the name of the directory."""
    (node.state / HEADER_BACKUPS).write_text("", encoding="utf-8")
    node.want("one")
    assert all(found.in_sync for found in sync(node.node, (EPHEMERAL,)))
    assert any("no backup of its header was kept" in line for line in node.told)


def test_a_file_that_is_no_backup_is_listed_as_such(node: Keeping) -> None:
    """With what is wrong, and dropped with the others."""
    directory = node.state / HEADER_BACKUPS
    directory.mkdir()
    (directory / "STATE-odd.json").write_text("{}", encoding="utf-8")
    (kept,) = kept_backups(node.node)
    assert (kept.volume, kept.document, kept.problem) == (STATE, None, "this is no sealed header backup")
    assert len(drop_backups(node.node, STATE)) == 1
