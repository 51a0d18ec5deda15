"""Keys of a KMS on the host's side: a node that needs it to boot, and one that can do without for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from nodes import encrypted, mounted_from, node_spec, property_of, quick, report, status
from rig.cpio import Link
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import DEFAULT_UUID, Content, MachineSpec, unit

from luksctl.model.config import EPHEMERAL, STATE, Timeouts
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer, free_port

# What the guest calls the host.
HOST = "10.0.2.2"
AUTHORITY = Authority("a private authority")
DATABASE = """\
[Unit]
RequiresMountsFor=/system/ephemeral /system/state

[Service]
ExecStart=sleep infinity
"""
# A network that is only up when somebody asks for it.
NETWORK: dict[str, Content] = {
    "/etc/systemd/system/network-online.target.wants/rig-network.service": Link("../rig-network.service")
}


class Kms:
    """The KMS of a story: it goes away and comes back, and its sealed keys with it. A second endpoint is dead."""

    def __init__(self) -> None:
        self.port, self.dead_port = free_port(), free_port()
        self._pair = AUTHORITY.issue(HOST)
        self._master_key: bytes | None = None
        self._running: KmsServer | None = None

    def start(self, *, allowed: set[str] | None = None) -> KmsServer:
        """Serve `allowed` nodes, all without; instead of what was served before."""
        self.stop()
        server = KmsServer(
            AUTHORITY, pair=self._pair, master_key=self._master_key, allowed=allowed, port=self.port
        ).__enter__()
        self._master_key, self._running = server.master_key, server
        return server

    def stop(self) -> None:
        """Go away."""
        if self._running is not None:
            self._running.stop()
        self._running = None

    @property
    def dead(self) -> str:
        """Return the endpoint that the keys name, where nobody listens."""
        return f"https://{HOST}:{self.dead_port}"

    @property
    def policy(self) -> str:
        """Return the policy by which the KMS is reached."""
        endpoints = f"[{{endpoint: '{self.dead}', also: ['https://{HOST}:{self.port}']}}]"
        return (
            "---\napiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: ours\ncertificates: |\n"
            + "".join(f"  {line}\n" for line in AUTHORITY.pem.splitlines())
            + "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkdf: {time: 4, memory: 32KiB, threads: 1}\n"
            + f"kms: {{endpoints: {endpoints}, network: the network of the rig}}\n"
        )

    def key(self, slot: int) -> str:
        """Return a key of this KMS."""
        return f"slot: {slot}, kms: {{endpoint: '{self.dead}'}}"


@pytest.fixture
def kms() -> Iterator[Kms]:
    """Return a KMS that is off."""
    server = Kms()
    yield server
    server.stop()


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
    """Formatted, opened again by what META knows, without its KMS, revoked, and at last opened without a reboot."""
    config = quick(encrypted(STATE, kms.key(0)) + encrypted(EPHEMERAL, kms.key(0), "slot: 1, nodeID: {}") + kms.policy)
    files = NETWORK | unit("database.service", DATABASE, "multi-user.target")
    spec = MachineSpec(disks=(disks.talos(),), network=True, files=files)
    kms.start()

    first = machine(node_spec(spec, config))
    first.start()
    assert_mounted(first, STATE, EPHEMERAL)
    first.wait_for_unit("database.service")
    # EPHEMERAL was made without its kms key, which follows.
    first.wait_until("! systemctl is-active luksctl-network@EPHEMERAL.service", timeout_s=120)
    assert status(first)["exitCode"] == 0, first.journal("-u", "luksctl-*")
    checked = first.run("luksctl", "check", timeout_s=120)
    assert checked.status == 0, checked
    first.check("echo alive > /system/state/alive && sync -f /system/state/alive")
    first.poweroff()
    kms.stop()

    node = machine(node_spec(spec, None))
    node.start()
    assert_up_without_state(node)
    found = report(node, STATE)
    assert found["state"] == "unavailable", found
    # The rig's network swallows what nobody listens for: the call ends by its deadline.
    wait_for_problem(node, "is not reached|did not answer")

    kms.start(allowed=set())
    wait_for_problem(node, "does not serve this node")
    assert mounted_from(node, "/system/state") == ""
    said = node.journal()
    assert DEFAULT_UUID not in said.lower()

    kms.start(allowed={DEFAULT_UUID})
    assert_mounted(node, STATE, EPHEMERAL)
    assert node.read_file("/system/state/alive") == b"alive\n"
    node.wait_for_unit("database.service")
    assert report(node, EPHEMERAL)["opened_by"] == "with slot 1 (nodeID)"
    node.wait_until("! systemctl is-failed --quiet '*'", timeout_s=60)


def test_a_kms_that_is_dead_delays_nobody(machine: Callable[[MachineSpec], Machine], disks: Shelf, kms: Kms) -> None:
    """With another key at hand the node boots without its network, in sync by the token alone."""
    keys = (kms.key(0), "slot: 1, nodeID: {}")
    config = quick(encrypted(STATE, *keys) + encrypted(EPHEMERAL, *keys) + kms.policy)
    spec = MachineSpec(disks=(disks.talos(),), network=True, files=NETWORK)
    server = kms.start()

    first = machine(node_spec(spec, config))
    assert first.start() == "running"
    assert_mounted(first, STATE, EPHEMERAL)
    first.wait_until("! systemctl is-active luksctl-network@EPHEMERAL.service", timeout_s=180)
    first.wait_until("! systemctl is-active luksctl-network@STATE.service", timeout_s=180)
    assert status(first)["exitCode"] == 0, first.journal("-u", "luksctl-*")
    rotated = first.run("luksctl", "keys", "rotate", STATE, "--slot", "0", timeout_s=120)
    assert rotated.status == 0, rotated
    first.poweroff()
    asked = len(server.calls)
    assert asked >= 6
    kms.stop()

    node = machine(node_spec(spec, None))
    assert node.start() == "running"
    assert_mounted(node, STATE, EPHEMERAL)
    for volume in (STATE, EPHEMERAL):
        found = report(node, volume)
        assert (found["opened_by"], found["in_sync"]) == ("with slot 1 (nodeID)", True), found
        assert property_of(node, f"luksctl-network@{volume}.service", "ActiveState") == "inactive"
    assert property_of(node, "network-online.target", "ActiveState") == "inactive"
    checked = node.run("luksctl", "check", STATE, timeout_s=120)
    assert checked.status != 0
    assert "KMS" in checked.stdout + checked.stderr
