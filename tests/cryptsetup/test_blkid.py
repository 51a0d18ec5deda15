"""Signatures and partition tables are found on devices and image files, and nothing is found on zeros."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from luksctl.cryptsetup.blkid import partition_table, signature, signature_of
from luksctl.cryptsetup.device import Device
from luksctl.errors import DeviceError
from luksctl.model.probe import PartitionEntry, Signature
from luksctl.units import MIB
from tests.cryptsetup.conftest import IMAGE_BYTES
from tests.cryptsetup.forging import overwrite
from tests.cryptsetup.images import EPHEMERAL_PART, LINUX_DATA, STATE_PART, gpt, squashfs, swap

_DISK = uuid.UUID("dddddddd-0000-0000-0000-00000000000d")


def test_zeros_hold_nothing(image: str) -> None:
    """A blank image has neither a signature nor a partition table."""
    assert signature(image) is None
    assert partition_table(image) is None


def test_luks2_volume_is_recognised(volume: str) -> None:
    """Type, label, UUID and usage of a LUKS2 header are those of the header."""
    with Device.open(volume) as device:
        expected = Signature("crypto_LUKS", "disk label", device.header.uuid, "crypto")
    assert signature(volume) == expected


def test_signature_of_another_system_is_recognised(image: str) -> None:
    """What another system wrote is named, with its label and UUID."""
    overwrite(image, 0, swap())
    assert signature(image) == Signature("swap", "swap label", "00010203-0405-0607-0809-0a0b0c0d0e0f", "other")


def test_contradicting_signatures_are_ambivalent(image: str) -> None:
    """Two systems' signatures at once are an answer of its own, and not the first of the two."""
    overwrite(image, 0, swap())
    overwrite(image, 0, squashfs())
    assert signature(image) == Signature("", ambivalent=True)


def test_signature_at_an_offset_of_a_disk(image: str) -> None:
    """A range of a descriptor is probed as a device of its own."""
    overwrite(image, 2 * MIB, swap())
    fd = os.open(image, os.O_RDONLY)
    try:
        found = signature_of(fd, image, offset_bytes=2 * MIB, size_bytes=4 * MIB)
        assert signature_of(fd, image) is None
    finally:
        os.close(fd)
    assert found is not None
    assert found.type == "swap"


def test_partition_names_are_read_without_udev(image: str) -> None:
    """A GUID partition table gives each partition's number, name, UUIDs, offset and size."""
    for offset, piece in gpt(IMAGE_BYTES, _DISK, [STATE_PART, EPHEMERAL_PART]).items():
        overwrite(image, offset, piece)
    table = partition_table(image)
    assert table is not None
    assert (table.type, table.uuid) == ("gpt", str(_DISK))
    assert table.entries == (
        PartitionEntry(1, "STATE", str(STATE_PART.uuid), str(LINUX_DATA), 2 * MIB, 4 * MIB),
        PartitionEntry(2, "EPHEMERAL", str(EPHEMERAL_PART.uuid), str(LINUX_DATA), 6 * MIB, 8 * MIB),
    )
    assert signature(image) == Signature("gpt", uuid=str(_DISK))


def test_backup_table_is_read_where_the_primary_is_gone(image: str) -> None:
    """A disk whose first table is damaged still names its partitions."""
    for offset, piece in gpt(IMAGE_BYTES, _DISK, [STATE_PART]).items():
        overwrite(image, offset, piece)
    overwrite(image, 512, bytes(512))
    table = partition_table(image)
    assert table is not None
    assert [entry.name for entry in table.entries] == ["STATE"]


def test_absent_and_unreadable_devices_are_errors(tmp_path: Path) -> None:
    """What cannot be opened or probed is an error that names it, and never blank."""
    for path in (str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(DeviceError) as caught:
            signature(path)
        assert path in caught.value.cause
