"""Operators with a key pair of each kind, made once a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from luksctl.providers.recipient import Identity, Recipient, read_identity, read_recipient
from luksctl.secret import Secret
from tests.marker import MARKER

KINDS = ("x25519", "p256", "rsa")


def nobody_asks() -> Secret:
    """Stand where a key has no passphrase."""
    raise AssertionError("this private key has no passphrase")


@dataclass(frozen=True, slots=True)
class Operator:
    """One key pair."""

    private: x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    def private_pem(self, passphrase: bytes | None = None) -> bytes:
        """Return the private key as openssl writes it."""
        return self._private(PrivateFormat.PKCS8, passphrase)

    def private_openssh(self) -> bytes:
        """Return the private key as ssh-keygen writes it."""
        return self._private(PrivateFormat.OpenSSH, None)

    def _private(self, form: PrivateFormat, passphrase: bytes | None) -> bytes:
        protection: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            protection = BestAvailableEncryption(passphrase)
        return self.private.private_bytes(Encoding.PEM, form, protection)

    def public_pem(self) -> bytes:
        """Return the public key as PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def public_openssh(self) -> bytes:
        """Return the public key as a line of OpenSSH."""
        return self.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)

    def recipient(self) -> Recipient:
        """Return what a node has of them."""
        return read_recipient(self.public_pem())

    def identity(self) -> Identity:
        """Return what they have themselves."""
        with Secret.take(self.private_pem()) as text:
            return read_identity(text, nobody_asks)


@cache
def operator(kind: str, name: str = "first") -> Operator:
    """Return the operator `name` with a key of `kind`, always the same one."""
    assert name
    match kind:
        case "x25519":
            return Operator(x25519.X25519PrivateKey.generate())
        case "p256":
            return Operator(ec.generate_private_key(ec.SECP256R1()))
        case "marker":
            return Operator(x25519.X25519PrivateKey.from_private_bytes(MARKER))
        case _:
            return Operator(rsa.generate_private_key(65537, 2048))
