"""Finding the device of a volume: labels, twins, waiting, and tables that moved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.devices import uevents
from luksctl.devices.find import Finder, same_disk
from luksctl.errors import DeviceError
from luksctl.model.config import ByDevice, ByImage, ByLabel
from luksctl.model.observed import Ambiguous, Missing
from luksctl.model.probe import Device, PartitionEntry
from luksctl.units import MIB
from tests.devices.fake_tree import FakeTree, Script, make_image, uuid_of


def finder(kernel: FakeTree, script: Script | None = None) -> Finder:
    """Return a finder whose waits are the script's."""
    return Finder(kernel.tree, kernel.listing, (script or Script()).listen)


def test_label_found_with_uuid_disk_and_size(installed: FakeTree) -> None:
    """A label is answered with the partition's node, size, GPT UUID and whole disk, without any waiting."""
    found = finder(installed).find(ByLabel("STATE"), timeout_s=60)
    assert found == Device(installed.node("sda2"), 100 * MIB, uuid_of("sda", 2), installed.node("sda"))


def test_uuid_is_lower_case(installed: FakeTree) -> None:
    """UUIDs are compared with META's record, so they come in one case."""
    entry = installed.tables["sda"][1]
    upper = PartitionEntry(2, "STATE", "ABCDEF00-" + entry.uuid[9:], "", entry.offset_bytes, entry.size_bytes)
    installed.tables["sda"][1] = upper
    found = finder(installed).find(ByLabel("STATE"), timeout_s=0)
    assert isinstance(found, Device)
    assert found.partuuid.startswith("abcdef00-")


def test_absent_label_is_missing_and_names_what_was_sought(installed: FakeTree) -> None:
    """With no time to wait, an absent label is Missing at once."""
    found = finder(installed).find(ByLabel("u-data"), timeout_s=0)
    assert found == Missing("a partition labelled 'u-data'")


def test_same_label_on_two_disks_is_ambiguous_and_names_both(installed: FakeTree) -> None:
    """Two partitions of one label are never chosen between; both are named with their disks."""
    installed.add_disk("sdb", "8:16")
    installed.add_partition("sdb", 1, "STATE")
    found = finder(installed).find(ByLabel("STATE"), timeout_s=60)
    assert isinstance(found, Ambiguous)
    one, other = found.candidates
    assert installed.node("sda2") in one
    assert one.endswith(f"on {installed.node('sda')}")
    assert installed.node("sdb1") in other
    assert other.endswith(f"on {installed.node('sdb')}")


def test_naming_the_disk_settles_the_ambiguity(installed: FakeTree) -> None:
    """`disk` narrows the search to one disk, also through a link to it."""
    installed.add_disk("sdb", "8:16")
    installed.add_partition("sdb", 1, "STATE")
    link = Path(installed.roots.dev) / "by-id-disk"
    link.symlink_to("sdb")
    found = finder(installed).find(ByLabel("STATE", str(link)), timeout_s=60)
    assert isinstance(found, Device)
    assert found.path == installed.node("sdb1")


def test_named_disk_that_is_not_there_is_missing(installed: FakeTree) -> None:
    """A label on another disk than the named one does not count."""
    found = finder(installed).find(ByLabel("STATE", installed.node("sdx")), timeout_s=0)
    assert isinstance(found, Missing)
    assert "no such disk" in found.sought


def test_twin_that_the_kernel_has_not_announced_yet_counts(installed: FakeTree) -> None:
    """The kernel adds partitions one by one; a twin that stands in the table is seen before it is added."""
    installed.tables["sda"].append(PartitionEntry(4, "STATE", uuid_of("sda", 4), "", 1002 * MIB, MIB))
    found = finder(installed).find(ByLabel("STATE"), timeout_s=60)
    assert isinstance(found, Ambiguous)
    assert f"partition 4 on {installed.node('sda')}" in found.candidates


@pytest.mark.parametrize("location", ["label", "device"])
def test_kernel_with_an_older_table_is_not_believed(installed: FakeTree, location: str) -> None:
    """Where kernel and disk disagree on a partition's place, writing there would hit something else."""
    entry = installed.tables["sda"][1]
    installed.tables["sda"][1] = PartitionEntry(2, "STATE", entry.uuid, "", entry.offset_bytes + MIB, entry.size_bytes)
    wish = ByLabel("STATE") if location == "label" else ByDevice(installed.node("sda2"))
    found = finder(installed).find(wish, timeout_s=0)
    assert isinstance(found, Missing)
    assert "table" in found.sought


def test_unreadable_table_is_missing_with_the_cause(installed: FakeTree) -> None:
    """A disk that answers no read is reported, not guessed at."""

    def broken(path: str) -> tuple[PartitionEntry, ...]:
        raise DeviceError(f"{path}: Input/output error")

    found = Finder(installed.tree, broken, Script().listen).find(ByLabel("STATE"), timeout_s=0)
    assert isinstance(found, Missing)
    assert "Input/output error" in found.sought


def test_disk_that_comes_later_is_awaited(kernel: FakeTree) -> None:
    """The subscription stands before the second look, and the event that brings the disk ends the wait."""

    def plug() -> None:
        kernel.add_disk("sda", "8:0")
        kernel.add_partition("sda", 1, "STATE")

    script = Script(lambda: None, plug)
    found = finder(kernel, script).find(ByLabel("STATE"), timeout_s=60)
    assert isinstance(found, Device)
    assert script.subscriptions == 1
    assert script.actions == []


def test_zero_timeout_never_subscribes(kernel: FakeTree) -> None:
    """A look under the disk's flock must not wait for udev."""
    script = Script()
    kernel.udev(busy=True)
    finder(kernel, script).find(ByLabel("STATE"), timeout_s=0)
    assert script.subscriptions == 0


def test_busy_udev_may_still_bring_a_twin(installed: FakeTree) -> None:
    """A partition is not taken while udevd has events: the second disk may be among them."""
    installed.udev(busy=True)

    def twin() -> None:
        installed.add_disk("sdb", "8:16")
        installed.add_partition("sdb", 1, "STATE")
        installed.udev(busy=False)

    found = finder(installed, Script(twin)).find(ByLabel("STATE"), timeout_s=60)
    assert isinstance(found, Ambiguous)


def test_partition_that_vanishes_while_waiting_is_missing_again(
    installed: FakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device seen once and then removed is not returned."""
    installed.udev(busy=True)
    now = [100.0]
    monkeypatch.setattr("luksctl.devices.find.time.monotonic", lambda: now[0])

    def unplug() -> None:
        installed.remove("sda2")
        installed.tables["sda"].pop(1)
        now[0] += 3600

    found = finder(installed, Script(unplug)).find(ByLabel("STATE"), timeout_s=60)
    assert isinstance(found, Missing)


def test_udev_that_never_settles_does_not_hold_up_a_boot_for_ever(
    installed: FakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the settling time a device that is there is taken, long before the timeout."""
    installed.udev(busy=True)
    now = [100.0]
    monkeypatch.setattr("luksctl.devices.find.time.monotonic", lambda: now[0])

    def later() -> None:
        now[0] += 6

    script = Script(later, later)
    assert isinstance(finder(installed, script).find(ByLabel("STATE"), timeout_s=90), Device)
    assert script.actions == []


def test_sysfs_directory_half_gone_counts_as_gone(installed: FakeTree) -> None:
    """A device whose files vanish between listing and reading is skipped."""
    (Path(installed.roots.sys) / "class/block/sda2/size").unlink()
    assert isinstance(finder(installed).find(ByLabel("STATE"), timeout_s=0), Missing)


def test_device_path_of_a_partition_has_uuid_and_disk(installed: FakeTree) -> None:
    """A volume named by path is the same value as one found by label."""
    by_path = finder(installed).find(ByDevice(installed.node("sda3")), timeout_s=0)
    assert by_path == finder(installed).find(ByLabel("EPHEMERAL"), timeout_s=0)


def test_device_path_through_a_link_is_resolved(installed: FakeTree) -> None:
    """Links of udev lead to the kernel's node, so that backing devices compare equal."""
    link = Path(installed.roots.dev) / "link"
    link.symlink_to("sda")
    assert finder(installed).find(ByDevice(str(link)), timeout_s=0) == Device(
        installed.node("sda"), 1024 * MIB, known_as=str(link)
    )


def test_device_path_that_is_no_block_device_is_an_error(installed: FakeTree, tmp_path: Path) -> None:
    """An image under `device:` says how to write it instead."""
    image = make_image(tmp_path / "image", MIB)
    with pytest.raises(DeviceError, match="not a block device") as caught:
        finder(installed).find(ByDevice(image), timeout_s=0)
    assert "image:" in (caught.value.hint or "")


def test_partition_of_a_table_without_names_needs_no_uuid(kernel: FakeTree) -> None:
    """An MBR partition named by path is taken as it is."""
    kernel.add_disk("sda", "8:0")
    kernel.announce("sda", 1, "")
    assert finder(kernel).find(ByDevice(kernel.node("sda1")), timeout_s=0) == Device(
        kernel.node("sda1"), 100 * MIB, disk=kernel.node("sda"), known_as=kernel.node("sda1")
    )


def test_image_file_is_found_by_its_real_path(kernel: FakeTree, tmp_path: Path) -> None:
    """Two names of one image must lead to one sidecar lock."""
    image = make_image(tmp_path / "image", MIB)
    (tmp_path / "alias").symlink_to("image")
    found = finder(kernel).find(ByImage(str(tmp_path / "alias")), timeout_s=60)
    assert found == Device(image, MIB, image=True)


def test_absent_image_is_missing_at_once(kernel: FakeTree, tmp_path: Path) -> None:
    """No uevent announces a file, so nobody waits for one."""
    assert isinstance(finder(kernel).find(ByImage(str(tmp_path / "none")), timeout_s=60), Missing)


def test_directory_as_image_is_an_error(kernel: FakeTree, tmp_path: Path) -> None:
    """A directory is not silently missing."""
    with pytest.raises(DeviceError, match="regular file"):
        finder(kernel).find(ByImage(str(tmp_path)), timeout_s=0)


def test_volumes_on_different_disks_are_ambiguous() -> None:
    """Volumes sought by label alone belong on one disk; the answer names each with its disk."""
    devices = {
        "STATE": Device("/dev/sda2", 1, "u1", "/dev/sda"),
        "EPHEMERAL": Device("/dev/sdb3", 1, "u2", "/dev/sdb"),
    }
    answer = same_disk(devices)
    assert answer is not None
    assert answer.candidates == ("STATE is /dev/sda2 on /dev/sda", "EPHEMERAL is /dev/sdb3 on /dev/sdb")


def test_volumes_on_one_disk_and_images_are_fine() -> None:
    """Image files have no disk and do not count."""
    devices = {
        "META": Device("/images/meta", 1, image=True),
        "STATE": Device("/dev/sda2", 1, "u1", "/dev/sda"),
        "EPHEMERAL": Device("/dev/sda3", 1, "u2", "/dev/sda"),
    }
    assert same_disk(devices) is None


def test_without_udevd_waiting_falls_back_to_looking_again(kernel: FakeTree) -> None:
    """In a container nobody sends events; a wait still returns, and without pyudev."""
    with uevents.listen(kernel.roots) as events:
        events.wait(0.001)
    assert not uevents.wait_until(lambda: False, 0.001, lambda: uevents.listen(kernel.roots))


def test_waiting_ends_when_the_condition_holds(kernel: FakeTree) -> None:
    """The condition is asked again after each event."""
    state: list[int] = []
    script = Script(lambda: state.append(1), lambda: state.append(2))
    assert uevents.wait_until(lambda: len(state) == 2, 60, script.listen)
    assert kernel.tree.names() == ()


def test_real_monitor_subscribes_and_returns(kernel: FakeTree) -> None:
    """With udevd's control file there, pyudev's own monitor is used; its wait ends at the timeout."""
    kernel.udev(busy=False)
    with uevents.listen(kernel.roots) as events:
        events.wait(0.001)
    assert "pyudev" in sys.modules


def test_importing_the_room_loads_neither_pyudev_nor_subprocess() -> None:
    """A converged boot needs neither, and they are a good part of its start."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from luksctl.devices import find, locks, mapping, medium, mkfs, mountpoints, partition, erase\n"
        "print(sorted({'pyudev', 'subprocess', 'ctypes', 'json', 'shutil'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_device_is_known_by_what_the_kernel_does_not_number_anew(installed: FakeTree) -> None:
    """Volumes of LVM have a UUID, whatever number they get at a boot; others have the path in the settings."""
    link = Path(installed.roots.dev) / "vg-data"
    identities = []
    for kernel_name, number in (("dm-0", "253:0"), ("dm-7", "253:7")):
        installed.add_dm(kernel_name, number, "vg-data", "LVM-0123", ("sda3",))
        link.unlink(missing_ok=True)
        link.symlink_to(kernel_name)
        found = finder(installed).find(ByDevice(str(link)), timeout_s=0)
        assert isinstance(found, Device)
        assert found.path == installed.node(kernel_name)
        identities.append(found.identity)
        installed.remove(kernel_name)
    assert identities == ["LVM-0123", "LVM-0123"]
    installed.add_dm("dm-1", "253:1", "below", "", ("sda3",))
    link.unlink()
    link.symlink_to("dm-1")
    found = finder(installed).find(ByDevice(str(link)), timeout_s=0)
    assert isinstance(found, Device)
    assert found.identity == str(link)
