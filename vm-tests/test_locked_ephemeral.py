"""EPHEMERAL does not open, or is not there: the node comes up without it, and takes it by itself once it can be had."""

from __future__ import annotations

from collections.abc import Callable

from nodes import CONFIG_PATH, NODE_ID, config, encrypted, mounted_from, property_of, quick, report, status
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import Content, MachineSpec, unit

from luksctl.model.config import EPHEMERAL, META, STATE, Timeouts

PASSPHRASE = "the only key of EPHEMERAL"
STATIC = f"slot: 0, static: {{passphrase: {PASSPHRASE}}}"
CONFIG = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, STATIC)))
SETTINGS = "/etc/luksctl/luksctl.yaml"
IMPATIENT = "timeouts: {device: 2s, retryMin: 1s, retryMax: 2s}\n"
TWO_DISKS = f"""\
volumes:
  META: {{disk: /dev/disk/by-id/virtio-home}}
  STATE: {{disk: /dev/disk/by-id/virtio-home, mountPoint: /srv/node/state}}
  EPHEMERAL: {{disk: /dev/disk/by-id/virtio-late, mountPoint: /srv/node/ephemeral}}
{IMPATIENT}"""

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
    device = "/dev/disk/by-partlabel/EPHEMERAL"
    node.check("cryptsetup", "luksChangeKey", "-q", "-S0", *kdf, "--key-file=/run/old", device, "/run/new")


def assert_nothing_can_be_written_below(node: Machine, path: str, why: str) -> None:
    """Check that root itself can neither write a file nor make a directory there."""
    for attempt in (f"echo plain text > {path}/stray", f"mkdir {path}/stray"):
        refused = node.run(attempt)
        assert refused.status != 0
        assert why in refused.stderr
    assert node.check("ls", "-A", path) == ""


def test_locked_ephemeral_leaves_the_node_up_and_mounts_when_its_key_comes_back(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """Its one passphrase was changed: the next boot ends without it, and it is mounted when the passphrase is back."""
    files: dict[str, Content] = {"/etc/node.yaml": CONFIG, SETTINGS: IMPATIENT}
    files |= unit("server.service", SERVER, "multi-user.target")
    files |= unit("database.service", DATABASE, "multi-user.target")
    spec = MachineSpec(
        disks=(disks.talos(),), files=files, root_upper="disk", cmdline=("luksctl.config=/etc/node.yaml",)
    )
    node = machine(spec)
    node.start()
    node.check("luksctl", "enable")
    assert mounted_from(node, "/system/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    assert report(node, STATE)["config_source"] == "kernel argument /etc/node.yaml"
    change_key(node, PASSPHRASE, "something else")

    assert node.reboot() == "degraded"
    assert property_of(node, "emergency.target", "ActiveState") == "inactive"
    for reached in ("system-state.mount", "local-fs.target", "multi-user.target", "server.service"):
        assert property_of(node, reached, "ActiveState") == "active", reached
    started_s = float(node.read_file("/run/luksctl/boot-started"))
    up_s = int(property_of(node, "multi-user.target", "ActiveEnterTimestampMonotonic")) / 1_000_000
    assert up_s < started_s + Timeouts().hook_s
    assert property_of(node, "luksctl-open@EPHEMERAL.service", "Result") == "exit-code"
    found = status(node)
    assert (found["exitCode"], found["volumes"][1]["state"]) == (4, "locked")
    assert mounted_from(node, "/system/ephemeral") == ""
    assert_nothing_can_be_written_below(node, "/system/ephemeral", "Operation not permitted")
    assert property_of(node, "database.service", "ActiveState") == "inactive"
    assert node.run("systemctl", "start", "database.service").status != 0

    change_key(node, "something else", PASSPHRASE)
    node.wait_for_unit("system-ephemeral.mount")
    assert mounted_from(node, "/system/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    assert report(node, EPHEMERAL)["opened_by"] == "with slot 0 (static)"
    node.check("systemctl", "start", "database.service")
    node.wait_until("! systemctl is-failed --quiet '*'")


def test_ephemeral_on_a_disk_that_comes_late_is_mounted_when_it_comes(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """No device within its timeout, below it a filesystem without an immutable flag: guarded, and mounted later."""
    home = disks.partitioned([(META, "1M"), (STATE, "100M")], "home", size_mib=128)
    late = disks.partitioned([(EPHEMERAL, "")], "late", size_mib=128)
    node = machine(MachineSpec(disks=(home,), files={CONFIG_PATH: CONFIG, SETTINGS: TWO_DISKS}))
    node.restore()
    node.check("mount", "-t", "ramfs", "ramfs", "/srv")
    enabled = node.run("luksctl", "enable")
    assert enabled.status == 5, enabled
    assert "/srv/node is guarded by a read-only bind mount" in enabled.stderr
    assert "srv-node-ephemeral.mount did not start" in enabled.stderr
    assert mounted_from(node, "/srv/node/state") == "/dev/mapper/luks2-STATE"
    found = report(node, EPHEMERAL)
    assert (found["state"], found["exit_code"]) == ("missing", 9)
    assert "'EPHEMERAL' on /dev/disk/by-id/virtio-late" in found["problem"]
    assert_nothing_can_be_written_below(node, "/srv/node/ephemeral", "Read-only file system")

    node.plug(late)
    node.wait_for_unit("srv-node-ephemeral.mount")
    assert mounted_from(node, "/srv/node/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    node.check("touch /srv/node/ephemeral/alive && sync -f /srv/node/ephemeral/alive")
