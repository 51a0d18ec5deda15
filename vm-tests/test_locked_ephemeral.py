"""EPHEMERAL does not open, or is not there: the node comes up without it, and takes it by itself once it can be had."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nodes import CONFIG_PATH, NODE_ID, config, enabled, encrypted, mounted_from, property_of, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import Content, MachineSpec, unit

from luksctl.model.config import EPHEMERAL, META, STATE, Timeouts

PASSPHRASE = "the only key of EPHEMERAL"
STATIC = f"slot: 0, static: {{passphrase: {PASSPHRASE}}}"
CONFIG = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, STATIC)))
SETTINGS = "/etc/luksctl/luksctl.yaml"
HOME, LATE = "/dev/disk/by-id/virtio-home", "/dev/disk/by-id/virtio-late"
TWO_DISKS = f"""\
volumes: {{META: {{disk: {HOME}}}, STATE: {{disk: {HOME}}}, EPHEMERAL: {{disk: {LATE}}}}}
timeouts: {{device: 2s, retryMin: 1s, retryMax: 2s}}
"""
MOUNTED_ELSEWHERE = f"""\
volumes:
  META: {{disk: {HOME}}}
  STATE: {{disk: {HOME}, mountPoint: /srv/node/state}}
  EPHEMERAL: {{disk: {LATE}, mountPoint: /srv/node/ephemeral}}
timeouts: {{device: 2s, retryMin: 1s, retryMax: 2s}}
"""

SERVER = "[Service]\nExecStart=sleep infinity\n"
DATABASE = """\
[Unit]
RequiresMountsFor=/system/ephemeral

[Service]
ExecStart=sleep infinity
"""


def change_key(node: Machine, old: str, new: str) -> None:
    """Change the passphrase in slot 0 of EPHEMERAL with the stock tool."""
    node.write_file("/run/old", old)
    node.write_file("/run/new", new)
    kdf = ("--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
    node.check("cryptsetup", "luksChangeKey", "-q", "-S0", *kdf, "--key-file=/run/old", f"{LATE}-part1", "/run/new")


def assert_nothing_can_be_written_below(node: Machine, path: str, why: str) -> None:
    """Check that root itself can neither write a file nor make a directory there."""
    for attempt in (f"echo plain text > {path}/stray", f"mkdir {path}/stray"):
        refused = node.run(attempt)
        assert refused.status != 0
        assert why in refused.stderr
    assert node.check("ls", "-A", path) == ""


def assert_up_without_ephemeral(node: Machine) -> None:
    """Check that this boot ended in time with everything up that does not need EPHEMERAL, and nothing that does."""
    assert property_of(node, "emergency.target", "ActiveState") == "inactive"
    for reached in ("system-state.mount", "local-fs.target", "multi-user.target", "server.service"):
        assert property_of(node, reached, "ActiveState") == "active", reached
    started_s = float(node.read_file("/run/luksctl/boot-started"))
    up_s = int(property_of(node, "multi-user.target", "ActiveEnterTimestampMonotonic")) / 1_000_000
    assert up_s < started_s + Timeouts().hook_s
    assert property_of(node, "luksctl-open@EPHEMERAL.service", "Result") == "exit-code"
    assert mounted_from(node, "/system/ephemeral") == ""
    assert property_of(node, "database.service", "ActiveState") == "inactive"
    assert "database.service/start failed with result 'dependency'" in node.journal("-u", "database.service")


def assert_mounts_by_itself(node: Machine) -> None:
    """Check that EPHEMERAL is mounted without anybody's doing, and can be used."""
    node.wait_for_unit("system-ephemeral.mount")
    assert mounted_from(node, "/system/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    node.check("systemctl", "start", "database.service")
    node.wait_until("! systemctl is-failed --quiet '*'")


@pytest.fixture
def two_disks(disks: Shelf) -> tuple[Disk, Disk]:
    """Return a disk with META and STATE, and another one with EPHEMERAL."""
    home = disks.partitioned([(META, "1M"), (STATE, "100M")], "home", size_mib=128)
    return home, disks.partitioned([(EPHEMERAL, "")], "late", size_mib=128)


def test_node_comes_up_without_ephemeral_and_mounts_it_when_it_can(
    machine: Callable[[MachineSpec], Machine], two_disks: tuple[Disk, Disk]
) -> None:
    """A first boot without EPHEMERAL's disk, and a second one with its only passphrase changed: both end well."""
    home, late = two_disks
    files: dict[str, Content] = {"/etc/node.yaml": CONFIG, SETTINGS: TWO_DISKS, **enabled()}
    files |= unit("server.service", SERVER, "multi-user.target")
    files |= unit("database.service", DATABASE, "multi-user.target")
    node = machine(
        MachineSpec(disks=(home,), files=files, root_upper="disk", cmdline=("luksctl.config=/etc/node.yaml",))
    )

    assert node.start() == "degraded"
    assert_up_without_ephemeral(node)
    assert report(node, STATE)["config_source"] == "kernel argument /etc/node.yaml"
    found = report(node, EPHEMERAL)
    assert (found["state"], found["exit_code"]) == ("missing", 9)
    assert f"'EPHEMERAL' on {LATE}" in found["problem"]
    node.check("luksctl", "enable", "--no-start")
    assert_nothing_can_be_written_below(node, "/system/ephemeral", "Operation not permitted")
    node.plug(late)
    assert_mounts_by_itself(node)

    change_key(node, PASSPHRASE, "something else")
    assert node.reboot() == "degraded"
    assert_up_without_ephemeral(node)
    seen = status(node)
    assert (seen["exitCode"], seen["volumes"][1]["state"]) == (4, "locked")
    assert_nothing_can_be_written_below(node, "/system/ephemeral", "Operation not permitted")
    change_key(node, "something else", PASSPHRASE)
    assert_mounts_by_itself(node)
    assert report(node, EPHEMERAL)["opened_by"] == "with slot 0 (static)"


def test_mount_points_without_an_immutable_flag_are_guarded(
    machine: Callable[[MachineSpec], Machine], two_disks: tuple[Disk, Disk]
) -> None:
    """Where the filesystem below has no such flag, a read-only bind mount keeps plain text away from it."""
    home, late = two_disks
    node = machine(MachineSpec(disks=(home,), files={CONFIG_PATH: CONFIG, SETTINGS: MOUNTED_ELSEWHERE}))
    node.restore()
    node.check("mount", "-t", "ramfs", "ramfs", "/srv")
    done = node.run("luksctl", "enable")
    assert done.status == 5, done
    assert "/srv/node is guarded by a read-only bind mount" in done.stderr
    assert "srv-node-ephemeral.mount did not start" in done.stderr
    assert mounted_from(node, "/srv/node/state") == "/dev/mapper/luks2-STATE"
    assert_nothing_can_be_written_below(node, "/srv/node/ephemeral", "Read-only file system")
    verified = node.run("systemd-analyze", "verify", "srv-node.mount")
    assert (verified.status, verified.stdout, verified.stderr) == (0, "", ""), verified

    node.plug(late)
    node.wait_for_unit("srv-node-ephemeral.mount")
    assert mounted_from(node, "/srv/node/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    node.check("touch /srv/node/ephemeral/alive && sync -f /srv/node/ephemeral/alive")
