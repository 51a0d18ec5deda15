"""Keys of a KMS on the host's side: a node that needs it to boot, and one that can do without for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kms_at_host import NETWORK, Kms
from nodes import encrypted, mounted_from, node_spec, property_of, quick, report, status
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import DEFAULT_UUID, MachineSpec, unit

from luksctl.model.config import EPHEMERAL, STATE, Timeouts
from luksctl.model.kms import NodeState

DATABASE = """\
[Unit]
RequiresMountsFor=/system/ephemeral /system/state

[Service]
ExecStart=sleep infinity
"""


def assert_mounted(node: Machine, *volumes: str) -> None:
    """Wait until systemd has mounted `volumes`, and check that it is from their mappings."""
    for volume in volumes:
        node.wait_for_unit(f"system-{volume.lower()}.mount", timeout_s=120)
        assert mounted_from(node, f"/system/{volume.lower()}") == f"/dev/mapper/luks2-{volume}"


def wait_for_problem(node: Machine, pattern: str) -> None:
    """Wait until the stage with a network has told of this."""
    node.wait_until(f"journalctl -u luksctl-network@STATE.service | grep -qE '{pattern}'", timeout_s=180)


def assert_up_without_state(node: Machine) -> None:
    """Check that the boot ended in time with everything up that needs no volume."""
    assert property_of(node, "emergency.target", "ActiveState") == "inactive"
    for reached in ("local-fs.target", "multi-user.target"):
        assert property_of(node, reached, "ActiveState") == "active", reached
    started_s = float(node.read_file("/run/luksctl/boot-started"))
    up_s = int(property_of(node, "multi-user.target", "ActiveEnterTimestampMonotonic")) / 1_000_000
    assert up_s < started_s + Timeouts().hook_s
    assert property_of(node, "database.service", "ActiveState") == "inactive"
    assert mounted_from(node, "/system/state") == ""


def test_a_state_that_only_a_kms_opens(machine: Callable[[MachineSpec], Machine], disks: Shelf, kms: Kms) -> None:
    """Formatted, opened again by what META knows, without its KMS, revoked, and at last opened without a reboot.

    The second boot has neither its config nor its certificate but in META, and the private key sealed in the TPM.
    """
    config = quick(encrypted(STATE, kms.key(0)) + encrypted(EPHEMERAL, kms.key(0), "slot: 1, nodeID: {}") + kms.policy)
    database = unit("database.service", DATABASE, "multi-user.target")
    spec = MachineSpec(disks=(disks.talos(),), tpm=True, network=True, files=NETWORK | database)
    kms.start()

    node = machine(node_spec(replace(spec, files=kms.files | database), config))
    node.start()
    assert_mounted(node, STATE, EPHEMERAL)
    node.wait_for_unit("database.service")
    # EPHEMERAL was made without its kms key, which follows.
    node.wait_until("! systemctl is-active luksctl-network@EPHEMERAL.service", timeout_s=120)
    assert status(node)["exitCode"] == 0, node.journal("-u", "luksctl-*")
    checked = node.run("luksctl", "check", timeout_s=120)
    assert checked.status == 0, checked
    node.check("echo alive > /system/state/alive && sync -f /system/state/alive")
    node.poweroff()
    kms.stop()

    node.spec = node_spec(spec, None)
    node.start()
    assert_up_without_state(node)
    found = report(node, STATE)
    assert found["state"] == "unavailable", found
    # The rig's network swallows what nobody listens for: the call ends by its deadline.
    wait_for_problem(node, "is not reached|did not answer")

    kms.let(NodeState.REVOKED)
    kms.start()
    wait_for_problem(node, "does not serve this node")
    assert mounted_from(node, "/system/state") == ""
    said = node.journal()
    assert DEFAULT_UUID not in said.lower()

    kms.let(NodeState.ALLOWED)
    assert_mounted(node, STATE, EPHEMERAL)
    assert node.read_file("/system/state/alive") == b"alive\n"
    node.wait_for_unit("database.service")
    assert report(node, EPHEMERAL)["opened_by"] == "with slot 1 (nodeID)"
    node.wait_until("! systemctl is-failed --quiet '*'", timeout_s=60)


def test_a_kms_that_is_dead_delays_nobody(machine: Callable[[MachineSpec], Machine], disks: Shelf, kms: Kms) -> None:
    """With the TPM at hand the node boots without its network, in sync by the token alone."""
    keys = (kms.key(0), "slot: 1, tpm: {}")
    config = quick(encrypted(STATE, *keys) + encrypted(EPHEMERAL, *keys) + kms.policy)
    spec = MachineSpec(disks=(disks.talos(),), tpm=True, network=True, files=kms.files)
    kms.start()

    node = machine(node_spec(spec, config))
    assert node.start() == "running"
    assert_mounted(node, STATE, EPHEMERAL)
    node.wait_until("! systemctl is-active luksctl-network@EPHEMERAL.service", timeout_s=180)
    node.wait_until("! systemctl is-active luksctl-network@STATE.service", timeout_s=180)
    assert status(node)["exitCode"] == 0, node.journal("-u", "luksctl-*")
    rotated = node.run("luksctl", "keys", "rotate", STATE, "--slot", "0", timeout_s=120)
    assert rotated.status == 0, rotated
    node.poweroff()
    assert kms.asked >= 6
    asked = kms.asked

    node.spec = node_spec(spec, None)
    assert node.start() == "running"
    assert_mounted(node, STATE, EPHEMERAL)
    for volume in (STATE, EPHEMERAL):
        found = report(node, volume)
        assert (found["opened_by"], found["in_sync"]) == ("with slot 1 (tpm)", True), found
        assert property_of(node, f"luksctl-network@{volume}.service", "ActiveState") == "inactive"
    assert property_of(node, "network-online.target", "ActiveState") == "inactive"
    assert kms.asked == asked
    kms.stop()
    checked = node.run("luksctl", "check", STATE, timeout_s=120)
    assert checked.status != 0
    assert "KMS" in checked.stdout + checked.stderr
