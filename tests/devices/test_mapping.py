"""Who stands on a device: mappings with their backing, mounts, swap, loop devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luksctl.devices.mapping import in_use, mapping
from luksctl.errors import DeviceError
from luksctl.model.observed import Mapping
from luksctl.model.probe import Device
from luksctl.units import MIB
from tests.devices.fake_tree import FakeTree, make_image

LUKS = "CRYPT-LUKS2-0123-luks2-STATE"


def state(kernel: FakeTree) -> Device:
    """Return the STATE partition."""
    return Device(kernel.node("sda2"), 100 * MIB, "uuid", kernel.node("sda"))


def disk(kernel: FakeTree) -> Device:
    """Return the whole disk."""
    return Device(kernel.node("sda"), 1024 * MIB)


def test_name_that_is_not_active_is_none(installed: FakeTree) -> None:
    """Other mappings do not matter."""
    installed.add_dm("dm-0", "253:0", "luks2-EPHEMERAL", LUKS, ("sda3",))
    assert mapping("luks2-STATE", installed.tree) is None


def test_active_mapping_names_its_backing_partition(installed: FakeTree) -> None:
    """The backing device is written as the finder writes it."""
    installed.add_dm("dm-0", "253:0", "luks2-STATE", LUKS, ("sda2",))
    expected = Mapping("luks2-STATE", f"{installed.roots.dev}/mapper/luks2-STATE", installed.node("sda2"))
    assert mapping("luks2-STATE", installed.tree) == expected


def test_image_behind_the_library_s_loop_device_is_the_backing(installed: FakeTree) -> None:
    """An autoclear loop device is libcryptsetup's own; the volume is the image file."""
    installed.add_loop("loop0", "7:0", "/images/state.img", autoclear=True)
    installed.add_dm("dm-0", "253:0", "luks2-STATE", LUKS, ("loop0",))
    found = mapping("luks2-STATE", installed.tree)
    assert found is not None
    assert found.backing == "/images/state.img"


def test_loop_device_that_somebody_made_is_the_backing_itself(installed: FakeTree) -> None:
    """A loop device given as `device:` stays a device."""
    installed.add_loop("loop0", "7:0", "/images/state.img", autoclear=False)
    installed.add_dm("dm-0", "253:0", "luks2-STATE", LUKS, ("loop0",))
    found = mapping("luks2-STATE", installed.tree)
    assert found is not None
    assert found.backing == installed.node("loop0")


def test_helper_mappings_of_a_reencryption_are_passed_through(installed: FakeTree) -> None:
    """During online re-encryption the volume stands on a helper and on the partition: one device in the end."""
    installed.add_dm("dm-1", "253:1", "luks2-STATE-hotzone-forward", "CRYPT-TEMP-luks2-STATE", ("sda2",))
    installed.add_dm("dm-0", "253:0", "luks2-STATE", LUKS, ("dm-1", "sda2"))
    found = mapping("luks2-STATE", installed.tree)
    assert found is not None
    assert found.backing == installed.node("sda2")


def test_mapping_without_a_table_has_no_backing(installed: FakeTree) -> None:
    """A name that was created and never loaded matches no device."""
    installed.add_dm("dm-0", "253:0", "luks2-STATE", LUKS, ())
    found = mapping("luks2-STATE", installed.tree)
    assert found is not None
    assert found.backing == ""


def test_our_name_on_something_else_is_an_error(installed: FakeTree) -> None:
    """A linear mapping under our name must not pass for an open volume."""
    installed.add_dm("dm-0", "253:0", "luks2-STATE", "LVM-abc", ("sda2",))
    with pytest.raises(DeviceError, match="not a dm-crypt device"):
        mapping("luks2-STATE", installed.tree)


def test_free_devices_are_not_in_use(installed: FakeTree, tmp_path: Path) -> None:
    """Nothing stands on a fresh disk, its partitions, or an image."""
    image = make_image(tmp_path / "image", MIB)
    for device in (state(installed), disk(installed), Device(image, MIB, image=True)):
        assert in_use(device, installed.tree) is None


def test_holder_is_named_with_its_mapping(installed: FakeTree) -> None:
    """A mapping on a partition uses the partition and the disk, but not its neighbour."""
    installed.add_dm("dm-0", "253:0", "other", "CRYPT-PLAIN-other", ("sda2",))
    expected = f"dm-0 (other), which stands on {installed.node('sda2')}"
    assert in_use(state(installed), installed.tree) == expected
    assert in_use(disk(installed), installed.tree) == expected
    assert in_use(Device(installed.node("sda3"), 1), installed.tree) is None


def test_mount_is_named_with_spaces_in_its_place(installed: FakeTree) -> None:
    r"""The kernel writes a space as \040."""
    installed.mount("8:2", "/dev/root", "/mnt/my\\040state")
    expected = f"the mount of {installed.node('sda2')} at /mnt/my state"
    assert in_use(state(installed), installed.tree) == expected
    assert in_use(disk(installed), installed.tree) == expected


def test_btrfs_mount_is_found_by_its_source(installed: FakeTree) -> None:
    """Such a mount shows a device number of its own."""
    installed.mount("0:41", installed.node("sda2"), "/data")
    assert "at /data" in (in_use(state(installed), installed.tree) or "")


def test_running_system_is_named_as_such(installed: FakeTree) -> None:
    """The disk of the root filesystem deserves more than a mount point."""
    installed.mount("8:3", installed.node("sda3"), "/")
    assert "the running system" in (in_use(disk(installed), installed.tree) or "")


def test_swap_uses_partition_and_image(installed: FakeTree, tmp_path: Path) -> None:
    """Swap on a device is found by number, in a file by path."""
    image = make_image(tmp_path / "image", MIB)
    installed.swap_on(installed.node("sda2"))
    installed.swap_on(image)
    assert in_use(state(installed), installed.tree) == f"swap on {installed.node('sda2')}"
    assert in_use(Device(image, MIB, image=True), installed.tree) == f"swap on {image}"


def test_loop_device_uses_its_image(installed: FakeTree, tmp_path: Path) -> None:
    """An attached image can change under us."""
    image = make_image(tmp_path / "image", MIB)
    installed.add_loop("loop3", "7:3", image, autoclear=False)
    assert in_use(Device(image, MIB, image=True), installed.tree) == f"the loop device {installed.node('loop3')}"


def test_exclusive_opener_is_seen_where_sysfs_shows_nothing(
    installed: FakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount in another namespace shows up only as EBUSY of an exclusive open."""
    really_open = os.open

    def claimed(path: str, flags: int) -> int:
        if flags & os.O_EXCL:
            raise OSError(16, "Device or resource busy", path)
        return really_open(path, flags)

    monkeypatch.setattr("luksctl.devices.mapping.os.open", claimed)
    assert "opened exclusively" in (in_use(state(installed), installed.tree) or "")


def test_device_that_is_gone_is_not_in_use(installed: FakeTree) -> None:
    """Nobody uses what is not there; opening it will say so."""
    device = state(installed)
    installed.remove("sda2")
    assert in_use(device, installed.tree) is None
