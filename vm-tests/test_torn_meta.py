"""META is torn, or STATE was swapped for something plain: what can be healed is healed, the rest stays locked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nodes import BOTH_BY_NODE_ID, CONFIG_PATH, mounted_from, node_spec, quick, report, status
from rig import host
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

CONFIG = quick(BOTH_BY_NODE_ID)
META_COPY_BYTES = 256 << 10
SECTOR_BYTES = 512
BY_HAND = "/root/by-hand.yaml"
EXIT_REFUSED, EXIT_LOCKED, EXIT_DEGRADED = 3, 4, 5

# A plain STATE that somebody would like to see mounted: its config asks for no encryption at all.
SWAP_STATE = """
mkfs.xfs -q -f --unsupported -L STATE /dev/disk/by-partlabel/STATE
mount /dev/disk/by-partlabel/STATE /mnt
printf 'machine: {}\\n' > /mnt/config.yaml
umount /mnt
"""


def tear(disk: Disk, *copies: int) -> None:
    """Leave copies 0 (A) and 1 (B) of META as a power cut does: one sector written, the checksum not yet."""
    start = disk.partition("META").offset_bytes
    for copy in copies:
        disk.write(start + copy * META_COPY_BYTES + SECTOR_BYTES, b"\x5a" * SECTOR_BYTES)


def blank(disk: Disk, label: str) -> None:
    """Make a partition zeros."""
    place = disk.partition(label)
    where = [f"--offset={place.offset_bytes}", f"--length={place.size_bytes}"]
    host.run(["fallocate", "--punch-hole", *where, str(disk.path)])


def test_torn_and_swapped(machine: Callable[[MachineSpec], Machine], disks: Shelf, tmp_path: Path) -> None:
    """One torn copy heals at the boot; a plain STATE is never mounted; with both copies torn nothing is formatted."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    stage = Stage(node, disk)
    stage.boot()
    stage.assert_both_mounted()
    with stage.let_go():
        good = disk.copy_to(tmp_path / "good.img")
    heals_a_torn_copy(stage, 0, "copy A")
    heals_a_torn_copy(stage, 1, "copy B")

    stage.show(good)
    node.check("sh", "-e", "-c", SWAP_STATE)
    with stage.let_go():
        swapped = disk.sha256("STATE")
    for config in (CONFIG, "machine: {}\n", None):
        place_config(node, config)
        does_not_mount_the_plain_state(stage, swapped)

    stage.show(good)
    stays_locked_without_meta(stage)
    opens_and_does_not_format_by_hand(stage)


def place_config(node: Machine, config: str | None) -> None:
    """Put a config where images put it, or none."""
    if config is None:
        node.check("rm", CONFIG_PATH)
    else:
        node.write_file(CONFIG_PATH, config)


def heals_a_torn_copy(stage: Stage, copy: int, name: str) -> None:
    """Check that a boot with one torn copy of META is a good one, and leaves META as it was before."""
    with stage.let_go() as disk:
        whole = disk.sha256("META")
        tear(disk, copy)
        assert disk.sha256("META") != whole
    finding = next(found for found in status(stage.machine)["findings"] if found.startswith("META is"))
    assert name in finding
    stage.boot()
    stage.assert_both_mounted()
    with stage.let_go() as disk:
        assert disk.sha256("META") == whole


def does_not_mount_the_plain_state(stage: Stage, swapped: str) -> None:
    """Check that the plain filesystem in STATE's place is refused by name, and not a byte of it changed."""
    assert stage.boot().status != 0
    found = report(stage.machine, "STATE")
    assert found["state"] == "refused", found
    assert found["exit_code"] == EXIT_REFUSED
    assert "holds a plain xfs filesystem" in found["problem"]
    assert mounted_from(stage.machine, "/system/state") == ""
    assert "STATE" not in stage.machine.check("findmnt", "-n", "-o", "SOURCE,LABEL")
    with stage.let_go() as disk:
        assert disk.sha256("STATE") == swapped


def stays_locked_without_meta(stage: Stage) -> None:
    """Check that a node whose META has two torn copies is locked, says why, and takes no first config."""
    node = stage.machine
    with stage.let_go() as disk:
        tear(disk, 0, 1)
        blank(disk, "EPHEMERAL")
        before = disk.sha256()
    assert stage.boot().status != 0
    found = report(node, "STATE")
    assert (found["state"], found["exit_code"]) == ("locked", EXIT_LOCKED)
    assert "no machine config is at hand and neither copy of META is valid" in found["problem"]
    assert "luksctl apply-config -f FILE" in found["hint"]
    assert (status(node)["condition"], status(node)["exitCode"]) == ("locked", EXIT_LOCKED)
    node.write_file(BY_HAND, CONFIG, mode=0o600)
    refused = node.run("luksctl", "apply-config", "--insecure", "-f", BY_HAND)
    assert refused.status == EXIT_REFUSED, refused
    assert "this one is locked" in refused.stderr
    node.check("sync")
    assert stage.disk.sha256() == before


def opens_and_does_not_format_by_hand(stage: Stage) -> None:
    """Check that the node's config given by hand opens STATE, and leaves META and the blank EPHEMERAL as they are."""
    node, disk = stage.machine, stage.disk
    before = [disk.sha256(label) for label in ("META", "EPHEMERAL")]
    opened = node.run("luksctl", "apply-config", "-f", BY_HAND)
    assert opened.status == EXIT_DEGRADED, opened
    assert "META is unreadable, so the format cannot be announced" in opened.stderr
    assert mounted_from(node, "/system/state") == "/dev/mapper/luks2-STATE"
    assert node.read_file("/system/state/config.yaml") == CONFIG.encode()
    assert mounted_from(node, "/system/ephemeral") == ""
    node.check("sync")
    assert [disk.sha256(label) for label in ("META", "EPHEMERAL")] == before
