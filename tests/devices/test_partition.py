"""Installing a disk: what is written, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from luksctl.devices import partition
from luksctl.devices.layout import LINUX_FILESYSTEM_TYPE
from luksctl.devices.locks import device_lock
from luksctl.devices.medium import open_medium, read
from luksctl.devices.mkfs import MKFS_EXT4, make_filesystem
from luksctl.devices.partition import SFDISK, Installer
from luksctl.devices.programs import locate, run
from luksctl.errors import Busy, DeviceError, DeviceMissing, NotBlank, Refused, UsageError
from luksctl.model.config import Filesystem
from luksctl.model.probe import Device, PartitionEntry, blank_ranges
from luksctl.units import MIB
from luksctl.value import replace
from tests.devices.fake_tree import BLKID, FakeTree, make_image, needs, read_signature, read_table

SIZE = 600 * MIB

pytestmark = [needs(SFDISK), needs(BLKID)]


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Provide a blank image of 600 MiB."""
    return make_image(tmp_path / "image", SIZE)


@pytest.fixture
def installer(kernel: FakeTree) -> Installer:
    """Provide an installer in a kernel without devices."""
    return Installer(kernel.tree, read_signature, read_table, lock_timeout_s=0)


def digest(path: str) -> str:
    """Return a hash of the whole image."""
    whole, position = hashlib.sha256(), 0
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while position < end:
            try:  # the holes of a sparse file are most of it
                position = file.seek(position, os.SEEK_DATA) // MIB * MIB
            except OSError:
                break
            file.seek(position)
            data = file.read(MIB)
            if any(data):
                whole.update(b"%d:%b" % (position, data))
            position += MIB
    return whole.hexdigest()


def put(path: str, offset_bytes: int, data: bytes) -> None:
    """Write `data` at an offset."""
    with open(path, "r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def is_blank(image: str, entry: PartitionEntry) -> bool:
    """Tell whether one partition of an image has zeros at both ends and no signature."""
    with open_medium(image) as medium:
        zero = medium.first_nonzero(blank_ranges(entry.offset_bytes, entry.size_bytes)) is None
    return zero and read_signature(image, entry.offset_bytes, entry.size_bytes) is None


def test_blank_disk_gets_three_labelled_partitions(image: str, installer: Installer) -> None:
    """Names, types, places and sizes are those of the layout, and the UUIDs are all different."""
    planned = installer.plan(image)
    done = installer.install(image)
    assert done.partitions == read_table(image)
    assert [(p.number, p.name, p.offset_bytes, p.size_bytes) for p in done.partitions] == [
        (p.number, p.name, p.offset_bytes, p.size_bytes) for p in planned
    ]
    assert {p.type_uuid for p in done.partitions} == {LINUX_FILESYSTEM_TYPE}
    assert len({done.disk_uuid, *(p.uuid for p in done.partitions)}) == 4


def test_new_partitions_are_blank(image: str, installer: Installer) -> None:
    """Boot formats only what is Blank, so every new partition has to be."""
    assert all(is_blank(image, entry) for entry in installer.install(image).partitions)


def test_plan_writes_nothing(image: str, installer: Installer) -> None:
    """Asking what would be done leaves the disk alone."""
    before = digest(image)
    installer.plan(image)
    assert digest(image) == before


def test_installed_disk_is_refused_and_names_its_partitions(image: str, installer: Installer) -> None:
    """Installing twice would destroy a node."""
    installer.install(image)
    before = digest(image)
    with pytest.raises(NotBlank, match="META, STATE, EPHEMERAL") as caught:
        installer.install(image)
    assert f"--erase {image}" in (caught.value.hint or "")
    assert digest(image) == before


@pytest.mark.parametrize("offset", [0, 8 * MIB, 17 * MIB, 102 * MIB, 110 * MIB, SIZE - 2 * MIB, SIZE - 1])
def test_unknown_bytes_where_a_volume_would_begin_or_end_are_refused(
    image: str, installer: Installer, offset: int
) -> None:
    """A pattern nobody knows may be somebody's data: refused with its place, bytes unchanged."""
    put(image, offset, b"\x5a")
    before = digest(image)
    with pytest.raises(NotBlank, match=f"byte {offset} "):
        installer.install(image)
    assert digest(image) == before


@needs(MKFS_EXT4)
def test_filesystem_on_the_whole_disk_is_refused_by_name(image: str, installer: Installer) -> None:
    """The message says what is there."""
    make_filesystem(image, Filesystem.EXT4, "DATA", uuid=None, size_bytes=SIZE, signature=read_signature)
    before = digest(image)
    with pytest.raises(NotBlank, match="ext4"):
        installer.install(image)
    assert digest(image) == before


def test_luks_header_is_refused(image: str, installer: Installer) -> None:
    """A LUKS magic alone, which is all that may be left of a volume, is enough."""
    put(image, 0x4000, b"SKUL\xba\xbe")
    with pytest.raises(NotBlank):
        installer.install(image)


def test_disk_erased_by_name_is_installed_and_blank(image: str, installer: Installer) -> None:
    """What stood at the ends of the disk, of its old partitions and of the new ones is gone."""
    old = installer.install(image)
    put(image, MIB, os.urandom(40 * MIB))
    put(image, 100 * MIB, os.urandom(20 * MIB))
    put(image, SIZE - 3 * MIB, os.urandom(2 * MIB))
    done = installer.install(image, erase=image)
    assert done.disk_uuid != old.disk_uuid
    assert read_table(image) == done.partitions
    assert all(is_blank(image, entry) for entry in done.partitions)


def test_heads_of_old_partitions_are_erased(image: str, installer: Installer) -> None:
    """An old LUKS header in the middle of the new EPHEMERAL would keep its keys."""
    script = f"label: gpt\nunit: sectors\nstart={300 * 2048}, size={100 * 2048}\n"
    sfdisk = locate(SFDISK)
    run([sfdisk, "--quiet", "--no-reread", "--no-tell-kernel", image], stdin=script, timeout_s=30)
    put(image, 300 * MIB, b"SKUL\xba\xbe")
    installer.install(image, erase=image)
    assert read(image, 300 * MIB, 6) == bytes(6)


def test_erasing_another_disk_than_named_is_a_usage_error(image: str, installer: Installer, tmp_path: Path) -> None:
    """`erase` has to name the very disk, so that a changed argument destroys nothing."""
    put(image, 0, b"data")
    other = make_image(tmp_path / "other", SIZE)
    before = digest(image), digest(other)
    with pytest.raises(UsageError, match="--erase names"):
        installer.install(image, erase=other)
    assert (digest(image), digest(other)) == before


def test_cut_before_the_table_leaves_a_disk_that_installs(
    image: str, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after erasing, the disk is blank and the same command without `erase` goes on."""
    installer.install(image)

    def cut(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(partition, "run", cut)
        with pytest.raises(KeyboardInterrupt):
            installer.install(image, erase=image)
    assert len(installer.install(image).partitions) == 3


@pytest.mark.parametrize("kept", ["primary", "backup"])
def test_torn_table_is_refused_and_erasing_mends_it(image: str, installer: Installer, kept: str) -> None:
    """With one copy of the table left the disk is not blank, and `erase` starts over."""
    installer.install(image)
    put(image, 0 if kept == "backup" else SIZE - MIB, bytes(MIB))
    with pytest.raises(NotBlank):
        installer.install(image)
    assert len(installer.install(image, erase=image).partitions) == 3


def test_missing_sfdisk_is_found_before_anything_is_erased(
    image: str, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package, the disk is as it was."""
    put(image, 0, b"data")

    def missing(_: object) -> str:
        raise DeviceError("sfdisk is not installed", hint="apt-get install fdisk")

    monkeypatch.setattr(partition, "locate", missing)
    with pytest.raises(DeviceError, match="not installed"):
        installer.install(image, erase=image)
    assert read(image, 0, 4) == b"data"


def test_table_that_reads_back_differently_is_an_error(image: str, installer: Installer) -> None:
    """Success is said only about what is on the disk."""
    with pytest.raises(DeviceError, match="read back"):
        replace(installer, listing=lambda _: ()).install(image)


def test_locked_disk_is_busy_and_untouched(image: str, installer: Installer) -> None:
    """Another formatter goes first."""
    with device_lock(Device(image, SIZE, image=True), timeout_s=0), pytest.raises(Busy):
        installer.install(image)
    assert read_table(image) == ()


def test_progress_is_told(image: str, installer: Installer) -> None:
    """Each slow part is announced."""
    told: list[str] = []
    replace(installer, progress=told.append).install(image, erase=image)
    assert told == [f"erasing {image}", f"writing the partition table of {image}"]


def test_attached_image_is_refused(image: str, installer: Installer, kernel: FakeTree) -> None:
    """A loop device on the image would see the table change below it, erased by name or not."""
    kernel.add_loop("loop0", "7:0", image, autoclear=False)
    with pytest.raises(Refused, match="in use by the loop device"):
        installer.install(image, erase=image)


def test_disk_of_the_running_system_is_refused_even_by_name(installer: Installer, installed: FakeTree) -> None:
    """No flag destroys what is mounted."""
    installed.mount("8:3", installed.node("sda3"), "/")
    disk = installed.node("sda")
    with pytest.raises(Refused, match="running system"):
        installer.install(disk, erase=disk)


def test_read_only_disk_is_refused(installer: Installer, kernel: FakeTree) -> None:
    """The kernel's read-only flag comes before everything else."""
    kernel.add_disk("sdr", "8:32", SIZE, read_only=True)
    with pytest.raises(Refused, match="read-only"):
        installer.install(kernel.node("sdr"))


def test_partition_is_no_disk_and_the_disk_is_named(installer: Installer, installed: FakeTree) -> None:
    """A partition table inside a partition is never what was meant."""
    with pytest.raises(UsageError, match="is a partition") as caught:
        installer.install(installed.node("sda3"))
    assert caught.value.hint == f"luksctl install {installed.node('sda')}"


def test_mapping_is_no_disk(installer: Installer, kernel: FakeTree) -> None:
    """The kernel does not read partitions from device-mapper devices."""
    kernel.add_dm("dm-0", "253:0", "vg-lv", "LVM-x", ())
    with pytest.raises(UsageError, match="device-mapper"):
        installer.install(kernel.node("dm-0"))


def test_disk_that_is_not_there_is_missing(installer: Installer, tmp_path: Path) -> None:
    """A typing mistake is told as such; a directory is no disk either."""
    with pytest.raises(DeviceMissing):
        installer.install(str(tmp_path / "sdz"))
    with pytest.raises(UsageError):
        installer.install(str(tmp_path))


def test_image_that_is_too_small_is_refused(installer: Installer, tmp_path: Path) -> None:
    """400 MiB do not hold an encrypted EPHEMERAL."""
    with pytest.raises(Refused, match="at least 512 MiB"):
        installer.install(make_image(tmp_path / "small", 400 * MIB))
