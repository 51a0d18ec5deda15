"""Keys of a KMS on the host's side: a node that needs it to boot, and one that can do without for a while.

The KMS is `luksctl kms serve` with client certificates: a node is who its certificate says, and is in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import encrypted, mounted_from, node_spec, property_of, quick, report, status
from rig.cpio import Link
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import DEFAULT_UUID, Content, MachineSpec, unit

from luksctl.model.config import EPHEMERAL, STATE, Timeouts
from luksctl.model.kms import NodeState
from tests.kms.serving import ServerProcess, allow, initialise, read_audit
from tests.providers.authorities import Authority
from tests.providers.kms_server import free_port

# What the guest calls the host.
HOST = "10.0.2.2"
AUTHORITY = Authority("a private authority")
NODES = Authority("the authority of nodes")
CERTIFICATE, PRIVATE_KEY = "/etc/luksctl/node.crt", "/etc/luksctl/node.key"
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
    """The KMS of a story: it goes away and comes back, and its list with it. A second endpoint is dead."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.dead_port = free_port(), free_port()
        served, self.shown = AUTHORITY.issue(HOST), NODES.issue(name=DEFAULT_UUID)
        (directory / "kms.crt").write_bytes(served.certificate)
        (directory / "kms.key").write_bytes(served.key)
        (directory / "nodes.crt").write_text(NODES.pem, encoding="ascii")
        self._running: ServerProcess | None = None
        initialise(directory)
        self.let(NodeState.ALLOWED)

    def start(self) -> None:
        """Serve."""
        paths = (str(self.directory / name) for name in ("kms.crt", "kms.key", "nodes.crt"))
        named = zip(("--tls-cert", "--tls-key", "--client-ca"), paths, strict=True)
        listen = ("--listen", f"127.0.0.1:{self.port}")
        self._running = ServerProcess(self.directory, *listen, *(word for pair in named for word in pair))
        self._running.__enter__()

    def stop(self) -> None:
        """Go away."""
        if self._running is not None:
            self._running.__exit__()
        self._running = None

    def let(self, state: NodeState) -> None:
        """Put the node into a state, as the operator does."""
        allow(self.directory, DEFAULT_UUID, state=state)

    @property
    def asked(self) -> int:
        """Return how many calls it has answered, whatever it said."""
        return len(read_audit(self.directory))

    @property
    def dead(self) -> str:
        """Return the endpoint that the keys name, where nobody listens."""
        return f"https://{HOST}:{self.dead_port}"

    @property
    def policy(self) -> str:
        """Return the policy by which the KMS is reached."""
        endpoints = f"[{{endpoint: '{self.dead}', also: ['https://{HOST}:{self.port}']}}]"
        shown = f"clientCertificate: {CERTIFICATE}, clientKey: {PRIVATE_KEY}"
        return (
            "---\napiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: ours\ncertificates: |\n"
            + "".join(f"  {line}\n" for line in AUTHORITY.pem.splitlines())
            + "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkdf: {time: 4, memory: 32KiB, threads: 1}\n"
            + "tpm: {literalPCRs: true}\n"
            + f"kms: {{endpoints: {endpoints}, network: the network of the rig, {shown}}}\n"
        )

    @property
    def files(self) -> dict[str, Content]:
        """Return what a node shows of itself, where its policy says; NETWORK as well."""
        return NETWORK | {CERTIFICATE: self.shown.certificate.decode(), PRIVATE_KEY: self.shown.key.decode()}

    def key(self, slot: int) -> str:
        """Return a key of this KMS."""
        return f"slot: {slot}, kms: {{endpoint: '{self.dead}'}}"


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[Kms]:
    """Return a KMS that is off."""
    server = Kms(tmp_path)
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
