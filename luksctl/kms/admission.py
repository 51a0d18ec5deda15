"""Who may: pure decisions over what is known of a node, who asks for it, and how unknown nodes get in."""

from __future__ import annotations

from enum import StrEnum
from hmac import compare_digest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from luksctl.errors import UsageError
from luksctl.kms.identity import Caller
from luksctl.model.kms import Enrol, Enrolment, KnownNode, NodeState
from luksctl.value import field, frozen

Network = IPv4Network | IPv6Network


class Verb(StrEnum):
    """What is asked."""

    SEAL = "seal"
    UNSEAL = "unseal"


class Outcome(StrEnum):
    """How a call ended: in the audit log, in the metrics, and, but for what nobody is told, as a status of gRPC."""

    OK = "ok"
    ENROLLED = "enrolled"
    UNKNOWN = "unknown"
    PENDING = "pending"
    REVOKED = "revoked"
    WRONG_TOKEN = "wrong-token"  # noqa: S105  # a word of the audit log
    WRONG_CERTIFICATE = "wrong-certificate"
    SECOND_CERTIFICATE = "second-certificate"
    MALFORMED = "malformed"
    NOT_SEALED_HERE = "not-sealed-here"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


DENIED = frozenset(
    {
        Outcome.UNKNOWN,
        Outcome.PENDING,
        Outcome.REVOKED,
        Outcome.WRONG_TOKEN,
        Outcome.WRONG_CERTIFICATE,
        Outcome.SECOND_CERTIFICATE,
    }
)
_STATES = {NodeState.ALLOWED: Outcome.OK, NodeState.PENDING: Outcome.PENDING, NodeState.REVOKED: Outcome.REVOKED}


@frozen
class Rules:
    """How unknown nodes get in, read from an Enrolment, and what callers have to show.

    `token` is the SHA-256 of the bearer token that each has to give, None where none is asked for.
    """

    mode: Enrol
    networks: tuple[Network, ...]
    until: float
    certificates: bool
    token: bytes | None = field(default=None, repr=False)

    def admits(self, caller: Caller, now: float) -> bool:
        """Tell whether an unknown node that asks from there is allowed at once."""
        if self.mode is not Enrol.AUTO or now >= self.until:
            return False
        address = _address(caller.address)
        return address is not None and any(address in network for network in self.networks)


def read_rules(enrolment: Enrolment, *, certificates: bool, token: bytes | None = None) -> Rules:
    """Return the rules; UsageError where nodes would be allowed by themselves without bounds."""
    try:
        networks = tuple(map(ip_network, enrolment.networks))
    except ValueError as error:
        raise UsageError(f"--enroll-from: {error}", hint="such as 10.1.0.0/16, or fd00:1::/64") from error
    if enrolment.mode is Enrol.AUTO:
        if not networks or enrolment.until is None:
            raise UsageError(
                "--enroll auto needs bounds: --enroll-from and --enroll-until",
                hint="without them whoever reaches the port is a node",
            )
    elif networks or enrolment.until is not None:
        raise UsageError("--enroll-from and --enroll-until belong to --enroll auto")
    return Rules(enrolment.mode, networks, enrolment.until or 0.0, certificates, token)


def judge(verb: Verb, identity: bytes, known: KnownNode | None, caller: Caller, rules: Rules, now: float) -> Outcome:
    """Return OK, ENROLLED (to be allowed first), or why not.

    A wrong token is refused whoever gives it. A certificate that names other nodes, and one other than that bound to
    the node, are refused whatever its state is, as is a caller without one where one is bound. Only sealing enrols:
    nobody has anything to unseal before.
    """
    if rules.token is not None and not compare_digest(rules.token, caller.token or b""):
        return Outcome.WRONG_TOKEN
    certificate = caller.certificate
    if rules.certificates and (certificate is None or identity not in certificate.nodes):
        return Outcome.WRONG_CERTIFICATE
    if known is not None and known.certificate is not None:
        if certificate is None:
            return Outcome.WRONG_CERTIFICATE
        if certificate.key != known.certificate:
            return Outcome.SECOND_CERTIFICATE
    state = None if known is None else known.state
    if state in {None, NodeState.PENDING} and verb is Verb.SEAL and rules.admits(caller, now):
        return Outcome.ENROLLED
    return Outcome.UNKNOWN if state is None else _STATES[state]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address; one of IPv4 that came in by IPv6 is one of IPv4. None where it is none (a Unix socket)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
