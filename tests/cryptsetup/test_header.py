"""Names, stored flags, backup and restore of a header."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header import Requirement
from luksctl.cryptsetup.mappings import NO_FLAGS, ActivateFlag
from luksctl.cryptsetup.ondisk import read_copies
from luksctl.errors import CryptsetupError
from luksctl.model.config import PERFORMANCE_OPTIONS
from luksctl.model.header import Copies
from luksctl.secret import Secret
from tests.cryptsetup.forging import overwrite, reader

_UUID = "99999999-2222-3333-4444-555555555555"


def test_names_change_in_both_copies(volume: str) -> None:
    """UUID, label and subsystem are written to both copies, which stay equal."""
    with Device.open(volume) as device:
        device.header.set_uuid(_UUID)
        device.header.set_label("", "")
        assert (device.header.uuid, device.header.label, device.header.subsystem) == (_UUID, "", "")
    copies = read_copies(*reader(volume))
    assert copies.state is Copies.EQUAL
    assert copies.best is not None
    assert (copies.best.uuid, copies.best.label, copies.best.subsystem) == (_UUID, "", "")


def test_stored_flags_read_back(volume: str) -> None:
    """The options of a volume are stored by the names that the config uses, and taken away again."""
    flags = ActivateFlag.named(PERFORMANCE_OPTIONS) | ActivateFlag.ALLOW_DISCARDS
    with Device.open(volume) as device:
        device.header.set_persistent_flags(flags)
    with Device.open(volume) as device:
        assert device.header.persistent_flags() == flags
        device.header.set_persistent_flags(NO_FLAGS)
        assert device.header.persistent_flags() == NO_FLAGS
        assert device.header.requirements() == Requirement(0)


def test_unknown_option_name_is_an_error() -> None:
    """An option that dm-crypt does not have is not silently left out."""
    with pytest.raises(KeyError):
        ActivateFlag.named(["no_such_workqueue"])


def test_backup_brings_a_zeroed_header_back(volume: str, tmp_path: Path, key: Secret) -> None:
    """A header that was wiped opens again after its backup is restored."""
    backup = str(tmp_path / "header.backup")
    with Device.open(volume) as device:
        device.header.backup(backup)
    assert os.stat(backup).st_mode & 0o777 == 0o400
    overwrite(volume, 0, bytes(1 << 20))
    with Device.blank(volume) as device:
        device.header.restore(backup)
    with Device.open(volume) as device:
        assert device.test_key(key, slot=0) == 0


def test_backup_does_not_overwrite_a_file(volume: str, tmp_path: Path) -> None:
    """A backup into a file that exists is refused, and the file stays."""
    backup = tmp_path / "precious"
    backup.write_text("precious")
    with Device.open(volume) as device, pytest.raises(CryptsetupError):
        device.header.backup(str(backup))
    assert backup.read_text() == "precious"


def test_repair_makes_the_copies_equal(volume: str, key: Secret) -> None:
    """A damaged first copy is rewritten from the second by a repair."""
    with Device.open(volume) as device:
        overwrite(volume, 4096, b"\0\0\0\0")
        assert read_copies(*reader(volume)).state is Copies.SECOND_ONLY
        device.header.repair()
    assert read_copies(*reader(volume)).state is Copies.EQUAL
    with Device.open(volume) as device:
        assert device.test_key(key, slot=0) == 0
