"""What the command line and the KMS say to each other: nodes, their states, how they get in, how it is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from luksctl.hints import Final, Protocol
from luksctl.secret import Secret
from luksctl.value import field, frozen

DEFAULT_DIRECTORY: Final = "/var/lib/luksctl-kms"
# What Talos' reference server listens on, and beside it, for this host only, what watches the server.
DEFAULT_LISTEN: Final = "[::]:4050"
DEFAULT_STATUS_LISTEN: Final = "127.0.0.1:4051"
# The first eight characters are the short hash that the node itself shows.
SHOWN_HASH_CHARACTERS: Final = 16
# systemd credentials of the service (systemd.exec(5), LoadCredential=).
KEY_CREDENTIAL: Final = "luksctl-kms.key"
PASSPHRASE_CREDENTIAL: Final = "luksctl-kms.passphrase"  # noqa: S105  # a name


class NodeState(StrEnum):
    """What a node may do: only an allowed one may seal and unseal."""

    PENDING = "pending"
    ALLOWED = "allowed"
    REVOKED = "revoked"


class Enrol(StrEnum):
    """What becomes of a node that nobody has heard of: allowed within bounds, noted for the operator, or nothing."""

    AUTO = "auto"
    PENDING = "pending"
    CLOSED = "closed"


@frozen
class KnownNode:
    """One node in the list. `identity` is the SHA-256 of its UUID; times are seconds since 1970.

    `certificate` is the SHA-256 of the public key of the client certificate that is bound to it, in hex.
    """

    identity: bytes = field(repr=False)
    state: NodeState
    certificate: str | None
    first_seen: int
    changed: int
    last_seen: int | None
    peer: str | None
    note: str

    @property
    def shown(self) -> str:
        """Return what is shown of the node, and found by: the beginning of its hash."""
        return shown_hash(self.identity)


@frozen
class KeyVersion:
    """One version of the master key; `created` in seconds since 1970."""

    version: int
    created: int


@frozen
class KeyList:
    """What a master key file holds: versions, oldest first, and when keys of reference servers were imported."""

    versions: tuple[KeyVersion, ...]
    imported: tuple[int, ...]


@frozen
class Enrolment:
    """How unknown nodes get in: `networks` (CIDR) and `until` (seconds since 1970) bound Enrol.AUTO."""

    mode: Enrol = Enrol.PENDING
    networks: tuple[str, ...] = ()
    until: float | None = None


@frozen
class TlsFiles:
    """PEM files of the server: its certificate chain, its private key, and the CAs of client certificates, if any."""

    certificate: str
    private_key: str
    client_ca: str | None = None


@frozen
class ServeOptions:
    """How to serve. `key` None: the credential, else master.key in `directory`; `tls` None: a pair made there.

    `rate` is requests a second that one peer may make, after a burst of `burst`; 0 is no limit.
    """

    directory: str = DEFAULT_DIRECTORY
    listen: str = DEFAULT_LISTEN
    status_listen: str = DEFAULT_STATUS_LISTEN
    key: str | None = None
    audit: str | None = None
    plaintext: bool = False
    force_plaintext: bool = False
    tls: TlsFiles | None = None
    client_ca: str | None = None
    token_file: str | None = None
    enrolment: Enrolment = Enrolment()
    workers: int = 1
    rate: float = 50.0
    burst: int = 200
    grace_s: float = 10.0
    compat: bool = False


@frozen
class KeyFile:
    """A master key file and who knows its passphrase; `ask` is called only where the file needs one."""

    path: str
    ask: Callable[[], Secret]


class KmsRoom(Protocol):
    """What the command line asks of the KMS. Every method may raise LuksctlError; none prints a key or a node UUID."""

    def initialise(self, directory: str, passphrase: Secret) -> KeyVersion:
        """Make the master key, sealed under `passphrase`, and an empty list of nodes; Refused where one is there."""

    def nodes(self, directory: str) -> tuple[KnownNode, ...]:
        """Return every node, oldest first."""

    def change_nodes(
        self, directory: str, names: Sequence[str], state: NodeState, *, note: str | None, new_certificate: bool
    ) -> tuple[KnownNode, ...]:
        """Give nodes a state, all or none of them; names are UUIDs or the beginnings of hashes."""

    def keys(self, file: KeyFile) -> KeyList:
        """Return what the master key file holds, without the keys themselves."""

    def rotate_key(self, file: KeyFile) -> KeyVersion:
        """Add a version of the master key, which seals once the server is reloaded."""

    def import_key(self, file: KeyFile, path: str) -> int:
        """Have the KMS open what a reference server sealed by the key file at `path`; return how many such keys it has.

        SealError where that is no key; Refused for one that was imported before.
        """

    def change_passphrase(self, file: KeyFile, new: Callable[[], Secret]) -> None:
        """Seal the master key file under another passphrase."""

    def export_key(self, file: KeyFile) -> Secret:
        """Return the master key as it is, for a systemd credential."""

    def serve(self, options: ServeOptions, ask: Callable[[], Secret], tell: Callable[[str], None]) -> int:
        """Serve until SIGTERM or SIGINT, and return the exit code; `tell` is given warnings and what happens."""

    def unit(self, command: Sequence[str], options: Sequence[str]) -> str:
        """Return the text of a systemd service that runs `command` with `options`."""


def shown_hash(identity: bytes) -> str:
    """Return what is shown of a node."""
    return identity.hex()[:SHOWN_HASH_CHARACTERS]
