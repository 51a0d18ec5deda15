"""EPHEMERAL holds something luksctl did not put there: it is named and refused, not one byte changes, STATE is fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from nodes import NODE_ID, config, encrypted, mounted_from, node_spec, property_of, quick, report
from rig import host
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

from luksctl.model.config import EPHEMERAL, STATE

PASSPHRASE = "whoever knows this opens both of them"
CONFIG = quick(
    config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, f"slot: 0, static: {{passphrase: {PASSPHRASE}}}"))
)
ONE_DISK_NAMED = "volumes:\n" + "".join(
    f"  {volume}: {{disk: /dev/disk/by-id/virtio-disk}}\n" for volume in ("META", STATE, EPHEMERAL)
)


# As Stage.let_go, but STATE stays as it is.
FORGET_EPHEMERAL = """
systemctl stop 'luksctl-retry@*' 2>/dev/null
systemctl reset-failed
for device in /dev/disk/by-id/virtio-disk*; do blockdev --flushbufs $device || exit 1; done
"""


@dataclass(frozen=True)
class Node:
    """A node whose STATE is in order, and the image of its disk while EPHEMERAL is blank."""

    stage: Stage
    base: Path

    @property
    def machine(self) -> Machine:
        """Return the running guest."""
        return self.stage.machine

    def put_on_ephemeral(self, content: Path) -> None:
        """Replace what is on EPHEMERAL, which nothing has open, from outside."""
        self.machine.check("sh", "-c", FORGET_EPHEMERAL)
        disk = self.stage.disk
        place, image = disk.partition(EPHEMERAL), str(disk.path)
        host.run(["fallocate", "--punch-hole", f"-o{place.offset_bytes}", f"-l{place.size_bytes}", image])
        how = ("bs=1M", f"seek={place.offset_bytes}", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none")
        host.run(["dd", f"if={content}", f"of={image}", *how])
        self.machine.check("sh", "-c", FORGET_EPHEMERAL)

    def sha256_of_ephemeral(self) -> str:
        """Return the hash of EPHEMERAL after everything the guest may still have had for it."""
        self.machine.check("sync")
        return self.stage.disk.sha256(EPHEMERAL)

    def assert_refused(self, *reasons: str) -> None:
        """Check that EPHEMERAL was refused for these reasons with a next command, and that STATE is mounted."""
        assert mounted_from(self.machine, "/system/state") == "/dev/mapper/luks2-STATE"
        self.machine.check("touch /system/state/alive && sync -f /system/state/alive")
        assert mounted_from(self.machine, "/system/ephemeral") == ""
        assert property_of(self.machine, "luksctl-open@EPHEMERAL.service", "Result") == "exit-code"
        found = report(self.machine, EPHEMERAL)
        assert (found["state"], found["exit_code"]) == ("refused", 3), found
        said = self.machine.journal("--output=cat", "-u", "luksctl-open@EPHEMERAL.service")
        for reason in reasons:
            assert reason in found["problem"], found
            assert reason in said
        assert found["hint"]


@pytest.fixture(scope="module")
def node(shared_machine: Callable[[MachineSpec], Machine], shared_disks: Shelf) -> Node:
    """Return a node that formatted its STATE, and has not looked at EPHEMERAL."""
    disk = shared_disks.talos(size_mib=256)
    guest = shared_machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    guest.restore()
    stage = Stage(guest, disk)
    guest.check("systemctl", "start", "system-state.mount")
    with stage.let_go():
        base = disk.copy_to(shared_disks.directory / "base.img")
    guest.check("systemctl", "start", "system-state.mount")
    return Node(stage, base)


def _ext4(path: Path) -> None:
    host.run(["mkfs.ext4", "-q", "-F", str(path)])


def _xfs(path: Path) -> None:
    host.run(["mkfs.xfs", "-q", "-f", "--unsupported", str(path)])


def _luks1(path: Path) -> None:
    _luks(path, "--type=luks1", "--pbkdf-force-iterations=1000")


def _luks2_with_damaged_first_header(path: Path) -> None:
    _luks(path, "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
    with path.open("r+b") as file:
        file.seek(0x1000 + 100)  # in the first copy's JSON
        file.write(b"?")


def _luks(path: Path, *how: str) -> None:
    key = path.with_suffix(".key")
    key.write_text(PASSPHRASE)
    host.run(["cryptsetup", "luksFormat", "--batch-mode", f"--key-file={key}", *how, str(path)])


def _pattern_in_the_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(12 << 20)
        file.write(b"somebody's own format" * 1000)


def _pattern_in_the_tail(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 512)
        file.write(b"the last sector of somebody's RAID")


FOREIGN = (
    (_ext4, "holds a plain ext4 filesystem, the config wants it encrypted"),
    (_xfs, "holds a plain xfs filesystem, the config wants it encrypted"),
    (_luks1, "holds a LUKS1 volume"),
    (_luks2_with_damaged_first_header, "META does not know this volume as ours"),
    (_pattern_in_the_head, "holds data that no known signature explains"),
    (_pattern_in_the_tail, "holds data that no known signature explains"),
)


@pytest.mark.parametrize(("put", "reason"), FOREIGN, ids=[put.__name__.strip("_") for put, _ in FOREIGN])
def test_foreign_content_is_refused(node: Node, tmp_path: Path, put: Callable[[Path], None], reason: str) -> None:
    """The boot names what it found on EPHEMERAL, goes on without it, and leaves every byte of it as it was."""
    content = tmp_path / "content"
    with content.open("wb") as file:
        file.truncate(node.stage.disk.partition(EPHEMERAL).size_bytes)
    put(content)
    node.put_on_ephemeral(content)
    before = node.sha256_of_ephemeral()
    assert before == Disk(content).sha256()
    node.machine.run("systemctl", "start", "system-ephemeral.mount")
    node.assert_refused(reason, "/dev/vd")
    assert node.sha256_of_ephemeral() == before


def test_twin_of_ephemeral_is_refused_until_a_disk_is_named(node: Node, shared_disks: Shelf) -> None:
    """Two blank partitions called EPHEMERAL: both are named, none is formatted; the settings say which one is meant."""
    twin = shared_disks.partitioned([(EPHEMERAL, "")], "twin", size_mib=64)
    untouched = twin.sha256(EPHEMERAL)
    node.stage.show(node.base)
    node.machine.plug(twin)
    names = [
        node.machine.check("readlink", "-f", f"/dev/disk/by-id/virtio-{partition}").strip()
        for partition in ("disk-part3", "twin-part1")
    ]
    node.stage.boot()
    node.assert_refused("2 partitions are labelled 'EPHEMERAL'", *names)
    assert node.sha256_of_ephemeral() == Disk(node.base).sha256(EPHEMERAL)
    assert twin.sha256(EPHEMERAL) == untouched

    node.machine.check("sh", "-c", FORGET_EPHEMERAL)
    node.machine.write_file("/etc/luksctl/luksctl.yaml", ONE_DISK_NAMED)
    node.stage.boot()
    node.stage.assert_both_mounted()
    assert twin.sha256(EPHEMERAL) == untouched
