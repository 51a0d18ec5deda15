"""A machine with a blank disk: `luksctl install`, `luksctl enable`, and from then on every boot does it by itself."""

from __future__ import annotations

import json
from collections.abc import Callable

from nodes import NODE_ID, config, encrypted, mounted_from, property_of, quick, report, status
from rig.disk import MIB, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec

from luksctl.model.config import EPHEMERAL, META, STATE

CONFIG = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, NODE_ID)))
DISK = "/dev/disk/by-id/virtio-disk"
# In the order in which a boot must reach them.
CHAIN = (
    "luksctl-open@STATE.service",
    "system-state.mount",
    "luksctl-open@EPHEMERAL.service",
    "system-ephemeral.mount",
    "local-fs.target",
    "sysinit.target",
)
OUR_UNITS = "cd /etc/systemd/system && ls -d luksctl-* system*.mount local-fs.target.wants/*"


def units_of_luksctl(node: Machine) -> list[str]:
    """Return the unit files that are installed, and the links to them."""
    return node.run(OUR_UNITS).stdout.split()


def assert_boot_was_in_order(node: Machine) -> None:
    """Check that systemd reached the chain in its order, and dropped no job to break an ordering cycle."""
    reached = [int(property_of(node, unit, "ActiveEnterTimestampMonotonic")) for unit in CHAIN]
    assert reached == sorted(reached), dict(zip(CHAIN, reached, strict=True))
    assert min(reached) > 0
    assert "ordering cycle" not in node.journal()


def assert_mounted_as_documented(node: Machine) -> None:
    """Check names, options and modes of both mounts."""
    for volume, mode in ((STATE, "700"), (EPHEMERAL, "755")):
        path = f"/system/{volume.lower()}"
        assert mounted_from(node, path) == f"/dev/mapper/luks2-{volume}"
        assert node.check("stat", "-c", "%a %U", path).split() == [mode, "root"]
    state = set(node.check("findmnt", "-n", "-o", "OPTIONS", "/system/state").strip().split(","))
    ephemeral = set(node.check("findmnt", "-n", "-o", "OPTIONS", "/system/ephemeral").strip().split(","))
    assert state >= {"nosuid", "nodev", "noexec"}
    assert not ephemeral & {"nosuid", "nodev", "noexec", "ro"}


def test_installed_and_enabled_node_boots_by_itself_until_disabled(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """Install on a blank disk, enable, reboot: the config of a credential formats and mounts; disable undoes enable."""
    disk = disks.blank()
    spec = MachineSpec(disks=(disk,), root_upper="disk", credentials={"luksctl.machineconfig": CONFIG.encode()})
    node = machine(spec)
    node.start()
    node.check("luksctl", "install", DISK)
    # The kernel and udev know the partitions when the command returns.
    node.check("sh", "-c", f"test -b {DISK}-part1 && test -b {DISK}-part2 && test -b /dev/disk/by-partlabel/EPHEMERAL")
    assert [part.label for part in disk.partitions()] == [META, STATE, EPHEMERAL]
    assert [disk.partition(volume).size_bytes // MIB for volume in (META, STATE)] == [1, 100]
    node.check("luksctl", "enable", "--encrypted=STATE,EPHEMERAL", "--no-start")
    assert mounted_from(node, "/system/state") == ""

    assert node.reboot() == "running"
    assert_mounted_as_documented(node)
    assert_boot_was_in_order(node)
    assert report(node, STATE)["config_source"] == "credential luksctl.machineconfig"
    assert node.read_file("/system/state/config.yaml") == CONFIG.encode()
    found = status(node)
    assert (found["condition"], found["exitCode"]) == ("running", 0)
    assert set(found["meta"]["partitions"]) == {META, STATE, EPHEMERAL}
    units = units_of_luksctl(node)
    services = [f"luksctl-{what}@{volume}.service" for what in ("open", "retry") for volume in (STATE, EPHEMERAL)]
    mounts = [name for name in units if name.endswith(".mount") and "/" not in name]
    assert mounts == ["system-ephemeral.mount", "system-state.mount"]
    checks = ["luksctl-check.service", "luksctl-check.timer"]
    verified = node.run("systemd-analyze", "verify", *services, *mounts, *checks)
    assert (verified.status, verified.stdout, verified.stderr) == (0, "", ""), verified

    assert property_of(node, "luksctl-check.timer", "ActiveState") == "active"
    node.check("systemctl", "start", "luksctl-check.service")
    proven = json.loads(node.read_file("/system/state/checked.json"))["slots"]
    assert [(slot["volume"], slot["outcome"]) for slot in proven] == [(STATE, "works"), (EPHEMERAL, "works")]
    healthy = node.run("luksctl", "doctor")
    assert (healthy.status, "nothing is wrong" in healthy.stdout) == (0, True), healthy

    node.check("systemctl", "stop", *mounts)
    assert node.run("touch /system/ephemeral/stray").status != 0
    node.check("luksctl", "disable")
    assert units_of_luksctl(node) == []
    assert property_of(node, "luksctl-check.timer", "ActiveState") == "inactive"
    node.check("touch", "/system/ephemeral/ordinary")
    assert node.run("systemctl", "start", "system-state.mount").status != 0
