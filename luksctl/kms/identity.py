"""Who asks: the UUID of a node as a hash, and the node UUIDs and public key of a client certificate."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from luksctl.hints import TYPE_CHECKING, Final
from luksctl.value import field, frozen

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_URN: Final = "urn:uuid:"
# As Talos judges nodeID keys: a UUID that repeats one character so often is one that a vendor never set.
_MOST_OF_ONE_CHARACTER: Final = 18


@frozen
class PeerCertificate:
    """A client certificate that a CA of ours signed: the nodes it names, and the SHA-256 of its public key in hex."""

    nodes: frozenset[bytes]
    key: str


@frozen
class Caller:
    """Who is at the other end: its address without the port, its certificate where it had to show one, its token.

    `token` is the SHA-256 of what it gave as a bearer token.
    """

    address: str
    certificate: PeerCertificate | None = None
    token: bytes | None = field(default=None, repr=False)


def bearer_token(value: str | bytes) -> bytes | None:
    """Return the SHA-256 of the token in a header `authorization` (RFC 6750), None where there is none in it."""
    text = value if isinstance(value, bytes) else value.encode()
    scheme, _, token = text.partition(b" ")
    return hashlib.sha256(token.strip()).digest() if scheme.lower() == b"bearer" else None


@lru_cache(maxsize=4096)
def identity_of(uuid: str) -> bytes:
    """Return the identity of the node with this UUID; ValueError where it is none, or one that many machines share.

    Upper and lower case are the same UUID, so that no node is in the list twice.
    """
    text = uuid.lower()
    if _UUID.fullmatch(text) is None:
        raise ValueError("not a UUID")
    if max(map(text.count, set(text))) > _MOST_OF_ONE_CHARACTER:
        raise ValueError("a UUID that was never set")
    return hashlib.sha256(text.encode()).digest()


@lru_cache(maxsize=4096)
def read_certificate(pem: bytes) -> PeerCertificate:
    """Return what a client certificate says of nodes: URIs urn:uuid:UUID, DNS names and common names that are UUIDs.

    ValueError where it cannot be read, which TLS has done before us.
    """
    from cryptography import x509  # noqa: PLC0415  # only servers that ask for certificates need it
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    certificate = x509.load_pem_x509_certificate(pem)
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    nodes = set()
    for name in _names(certificate):
        try:
            nodes.add(identity_of(name.removeprefix(_URN)))
        except ValueError:  # another name of the same machine
            continue
    return PeerCertificate(frozenset(nodes), hashlib.sha256(public).hexdigest())


def _names(certificate: Certificate) -> list[str]:
    from cryptography import x509  # noqa: PLC0415  # as above

    names = [
        attribute.value
        for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        if isinstance(attribute.value, str)
    ]
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names
    names += alternative.get_values_for_type(x509.UniformResourceIdentifier)
    names += alternative.get_values_for_type(x509.DNSName)
    return names
