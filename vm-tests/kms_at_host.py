"""A KMS on the host's side of a story: `luksctl kms serve` with client certificates, and what a node shows it.

A node is who its certificate says, and is in the list.
"""

from __future__ import annotations

from pathlib import Path

from rig.cpio import Link
from rig.spec import DEFAULT_UUID, Content

from luksctl.model.kms import NodeState
from tests.kms.serving import ServerProcess, allow, initialise, read_audit
from tests.providers.authorities import Authority
from tests.providers.kms_server import free_port

# What the guest calls the host.
HOST = "10.0.2.2"
AUTHORITY = Authority("a private authority")
NODES = Authority("the authority of nodes")
CERTIFICATE, PRIVATE_KEY = "/etc/luksctl/node.crt", "/etc/luksctl/node.key"
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
