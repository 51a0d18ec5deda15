"""Encryption to an operator's public key, so that a node can hand out what it must not keep.

X25519 and P-256 keys by HPKE (RFC 9180, base mode: DHKEM, HKDF-SHA256, ChaCha20-Poly1305), RSA keys by a random content
key under RSA-OAEP (RFC 8017, SHA-256) and ChaCha20-Poly1305. The context is authenticated with the content each time.
`cryptography` is imported by the functions only: no boot needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum

from luksctl.errors import SealError
from luksctl.hints import TYPE_CHECKING, Final
from luksctl.secret import Secret
from luksctl.value import field, frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.hpke import Suite

    PublicKey = X25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
    PrivateKey = X25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey

_CONTENT_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
# A content key encrypts one content only, so its nonce may be any fixed one.
_NONCE: Final = bytes(12)
_LEAST_RSA_BITS: Final = 2048
_MAKE_ONE: Final = "make a key for it: openssl genpkey -algorithm X25519 -out recovery.pem"
_OPENSSH_PRIVATE: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"


class Algorithm(StrEnum):
    """How something is sealed; it follows from the kind of key."""

    X25519 = "HPKE-X25519-HKDF-SHA256-CHACHA20-POLY1305"
    P256 = "HPKE-P256-HKDF-SHA256-CHACHA20-POLY1305"
    RSA = "RSA-OAEP-SHA256-CHACHA20-POLY1305"


@frozen
class Recipient:
    """A public key that something can be sealed to. `fingerprint`: sha256: and the hash of its SubjectPublicKeyInfo."""

    fingerprint: str
    algorithm: Algorithm
    key: PublicKey = field(repr=False)


@frozen
class Identity:
    """A private key, with the fingerprint of its public key."""

    fingerprint: str
    algorithm: Algorithm
    key: PrivateKey = field(repr=False)


def read_recipient(text: bytes) -> Recipient:
    """Return the public key that `text` holds, as PEM or as a line of OpenSSH; SealError where it cannot be used."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # see the top
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    if b"PRIVATE KEY-----" in text:
        raise SealError(
            "this is a private key, and the public one was asked for",
            hint="keep it away from the node; its public key: openssl pkey -in FILE -pubout",
        )
    load = serialization.load_pem_public_key if b"-----BEGIN" in text else serialization.load_ssh_public_key
    try:
        key = load(text.strip())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SealError("this is no public key in PEM or of OpenSSH", hint=_MAKE_ONE) from error
    return _recipient(key)


def read_identity(text: Secret, ask_passphrase: Callable[[], Secret]) -> Identity:
    """Return the private key that `text` holds, as PEM or of OpenSSH; SealError where it cannot be used.

    `ask_passphrase` is called once if the key is protected by one.
    """
    try:
        key = _load_private(text, None)
    except TypeError:  # the library's way to ask
        with ask_passphrase() as passphrase:
            key = _load_private(text, passphrase)
    recipient = _recipient(key.public_key())
    return Identity(recipient.fingerprint, recipient.algorithm, _usable_private(key))


def seal(recipient: Recipient, content: Secret, context: bytes) -> bytes:
    """Encrypt `content` to `recipient`; whoever opens it has to give the same `context`."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415  # see the top
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    key = recipient.key
    with content.view() as plain:
        if not isinstance(key, RSAPublicKey):
            try:
                return _suite(recipient.algorithm).encrypt(plain, key, context)
            except ValueError as error:
                raise SealError("nothing can be encrypted to this public key", hint=_MAKE_ONE) from error
        with Secret.random(_CONTENT_KEY_BYTES) as content_key, content_key.view() as view:
            wrapped = key.encrypt(bytes(view), _oaep())
            return wrapped + ChaCha20Poly1305(view).encrypt(_NONCE, plain, context)


def unseal(identity: Identity, sealed: bytes, context: bytes) -> Secret:
    """Return what was sealed to the public key of `identity`; SealError if it was sealed otherwise, or changed."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # see the top
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415

    key = identity.key
    try:
        if isinstance(key, RSAPrivateKey):
            return _unseal_rsa(key, sealed, context)
        return Secret.take(_suite(identity.algorithm).decrypt(sealed, key, context))
    except (InvalidTag, ValueError) as error:
        raise SealError(
            "it does not open with this key: it was changed since it was made, or made for another key",
            hint="look for an unchanged copy",
        ) from error


def _unseal_rsa(key: RSAPrivateKey, sealed: bytes, context: bytes) -> Secret:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415  # see the top

    wrapped_bytes = (key.key_size + 7) // 8
    content = Secret(max(1, len(sealed) - wrapped_bytes - _TAG_BYTES))
    with (
        Secret.take(key.decrypt(sealed[:wrapped_bytes], _oaep())) as content_key,
        content_key.view() as view,
        content.view() as plain,
    ):
        ChaCha20Poly1305(view).decrypt_into(_NONCE, sealed[wrapped_bytes:], context, plain)
    return content


# ---- keys -----------------------------------------------------------------------------------------------------------


def _recipient(key: PublicKeyTypes) -> Recipient:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519  # noqa: PLC0415  # see the top

    match key:
        case x25519.X25519PublicKey():
            return Recipient(_fingerprint(key), Algorithm.X25519, key)
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return Recipient(_fingerprint(key), Algorithm.P256, key)
        case rsa.RSAPublicKey(key_size=bits) if bits >= _LEAST_RSA_BITS:
            return Recipient(_fingerprint(key), Algorithm.RSA, key)
        case rsa.RSAPublicKey(key_size=bits):
            raise SealError(f"an RSA key of {bits} bits is too short; {_LEAST_RSA_BITS} are the least", hint=_MAKE_ONE)
        case ed25519.Ed25519PublicKey():
            raise SealError("an Ed25519 key signs, and cannot be encrypted to", hint=_MAKE_ONE)
        case _:
            raise SealError("keys can be X25519, RSA, or EC on the curve P-256; this one is not", hint=_MAKE_ONE)


def _fingerprint(key: PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415  # see the top

    return f"sha256:{hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()}"


def _load_private(text: Secret, passphrase: Secret | None) -> PrivateKeyTypes:
    """Load a private key; TypeError if it is protected and no passphrase was given."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # see the top
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    with text.view() as view:
        # The parser of OpenSSH's form keeps hold of the buffer when it fails, so it gets a copy.
        is_openssh = bytes(view[: len(_OPENSSH_PRIVATE)]) == _OPENSSH_PRIVATE
        load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
        content = bytes(view) if is_openssh else view
        try:
            if passphrase is None:
                return load(content, None)
            with passphrase.view() as given:
                return load(content, bytes(given))
        except ValueError as error:
            cause = "this is no private key in PEM or of OpenSSH" if passphrase is None else "the passphrase is wrong"
            raise SealError(cause, operation="read the private key") from error
        except UnsupportedAlgorithm as error:
            raise SealError(
                "this kind of private key, or of its protection, is not supported",
                operation="read the private key",
                hint="of OpenSSH's form a copy in PEM can be made: ssh-keygen -p -m PKCS8 -f COPY",
            ) from error


def _usable_private(key: PrivateKeyTypes) -> PrivateKey:
    """Return `key`, whose public part was found usable, as the type that says so."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519  # noqa: PLC0415  # see the top

    assert isinstance(key, x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key


def _suite(algorithm: Algorithm) -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite  # noqa: PLC0415  # see the top

    kem = KEM.X25519 if algorithm is Algorithm.X25519 else KEM.P256
    return Suite(kem, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _oaep() -> OAEP:
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP  # noqa: PLC0415  # see the top
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    return OAEP(MGF1(SHA256()), SHA256(), None)
