"""Sealing to a public key: only the private key opens, only unchanged, only in the same context."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from luksctl.errors import LuksctlError, SealError, UsageError
from luksctl.providers.recipient import Algorithm, read_identity, read_recipient, seal, unseal
from luksctl.secret import Secret
from tests.marker import MARKER, shown_in
from tests.providers.operators import KINDS, nobody_asks, operator

CONTEXT = b"a volume"


def content(secret: Secret) -> bytes:
    """Return the bytes of `secret`, and close it."""
    with secret, secret.view() as view:
        return bytes(view)


def sealed_to(kind: str, secret: bytes = MARKER) -> bytes:
    """Seal to the first operator with a key of `kind`."""
    with Secret.take(secret) as plain:
        return seal(operator(kind).recipient(), plain, CONTEXT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_bytes", [1, 77, 100_000])
def test_what_was_sealed_is_opened(kind: str, size_bytes: int) -> None:
    """Of any length, by the private key."""
    secret = (MARKER * 4000)[:size_bytes]
    sealed = sealed_to(kind, secret)
    assert content(unseal(operator(kind).identity(), sealed, CONTEXT)) == secret
    assert size_bytes < 32 or shown_in(sealed, secret[:32]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_same_is_sealed_differently(kind: str) -> None:
    """Nobody sees that two volumes have the same key."""
    assert sealed_to(kind) != sealed_to(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_another_key_does_not_open(kind: str) -> None:
    """Not one of the same kind either."""
    with pytest.raises(SealError, match="does not open"):
        unseal(operator(kind, "second").identity(), sealed_to(kind), CONTEXT)


@pytest.mark.parametrize("kind", KINDS)
def test_another_context_does_not_open(kind: str) -> None:
    """The context is authenticated."""
    with pytest.raises(SealError, match="does not open"):
        unseal(operator(kind).identity(), sealed_to(kind), b"another volume")


@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_opens(kind: str) -> None:
    """A bit at the beginning, in the middle, at the end; cut short, lengthened, empty."""
    sealed = sealed_to(kind)
    changed = [
        bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]])
        for at in (0, 31, 40, len(sealed) // 2, -1 % len(sealed))
    ]
    for wrong in (*changed, sealed[:-1], sealed[:20], sealed + b"\0", b""):
        with pytest.raises(SealError) as caught:
            unseal(operator(kind).identity(), wrong, CONTEXT)
        assert shown_in(f"{caught.value!r} {caught.value} {caught.value.fields()}") == []


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("x25519", Algorithm.X25519), ("p256", Algorithm.P256), ("rsa", Algorithm.RSA)]
)
def test_the_fingerprint_is_that_of_the_public_key(kind: str, algorithm: Algorithm) -> None:
    """SHA-256 of the DER form, as openssl and sha256sum give it; the same on both sides."""
    public = operator(kind).private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    recipient, identity = operator(kind).recipient(), operator(kind).identity()
    assert recipient.fingerprint == identity.fingerprint == f"sha256:{hashlib.sha256(public).hexdigest()}"
    assert recipient.algorithm is identity.algorithm is algorithm


@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_openssh_keys_are_read(kind: str, tmp_path: Path) -> None:
    """A line of authorized_keys with its comment, and the private key of ssh-keygen, are the same pair."""
    who = operator(kind)
    assert read_recipient(who.public_openssh() + b" somebody@somewhere\n") == who.recipient()
    with Secret.take(who.private_openssh()) as text:
        assert read_identity(text, nobody_asks).fingerprint == who.recipient().fingerprint
    path = tmp_path / "id"
    path.touch(0o600)
    path.write_bytes(who.private_openssh())
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", str(path)], check=True)
    with Secret.take(path.read_bytes()) as text, pytest.raises(SealError, match="not supported") as caught:
        read_identity(text, lambda: Secret.take(b"a passphrase"))
    assert "ssh-keygen -p -m PKCS8" in str(caught.value.hint)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-m", "PKCS8", "-P", "a passphrase", "-N", "", "-f", str(path)], check=True
    )
    with Secret.take(path.read_bytes()) as text:
        assert read_identity(text, nobody_asks).fingerprint == who.recipient().fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_a_protected_private_key_asks_for_its_passphrase(kind: str) -> None:
    """Once; the right one opens it, and it is closed afterwards."""
    given = Secret.take(bytes(MARKER))
    with Secret.take(operator(kind).private_pem(MARKER)) as text:
        identity = read_identity(text, lambda: given)
    assert identity.fingerprint == operator(kind).recipient().fingerprint
    assert given.closed


def test_a_wrong_passphrase_is_told_and_not_shown() -> None:
    """Neither the one that was given nor the right one."""
    with Secret.take(operator("x25519").private_pem(b"the right one")) as text, pytest.raises(SealError) as caught:
        read_identity(text, lambda: Secret.take(bytes(MARKER)))
    shown = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "the passphrase is wrong" in shown
    assert shown_in(shown) == shown_in(shown, b"the right one") == []


def test_nobody_to_ask_is_the_callers_error() -> None:
    """What the prompt raises comes through."""

    def ask() -> Secret:
        raise UsageError("no terminal")

    with Secret.take(operator("x25519").private_pem(b"x")) as text, pytest.raises(UsageError, match="no terminal"):
        read_identity(text, ask)


def _pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


UNFIT: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no public key"),
    "text": (lambda: MARKER, "no public key"),
    "broken PEM": (lambda: b"-----BEGIN PUBLIC KEY-----\n" + MARKER, "no public key"),
    "a broken line": (lambda: b"ssh-rsa " + MARKER, "no public key"),
    "a private key": (lambda: operator("marker").private_pem(), "is a private key"),
    "Ed25519": (lambda: _pem(ed25519.Ed25519PrivateKey.generate().public_key()), "signs"),
    "Ed25519 of OpenSSH": (
        lambda: ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "signs",
    ),
    "P-384": (lambda: _pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "keys can be"),
    "RSA 1024": (lambda: _pem(rsa.generate_private_key(65537, 1024).public_key()), "1024 bits is too short"),  # noqa: S505  # that is the point
}


@pytest.mark.parametrize("name", list(UNFIT))
def test_a_key_that_cannot_be_encrypted_to_is_refused(name: str) -> None:
    """With the reason and what to do; nothing of a private key given by mistake is shown."""
    make, reason = UNFIT[name]
    with pytest.raises(SealError, match=reason) as caught:
        read_recipient(make())
    assert caught.value.hint
    assert shown_in(f"{caught.value!r} {caught.value} {caught.value.hint}") == []


@pytest.mark.parametrize("text", [b"x", MARKER, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_private_key_is_refused(text: bytes) -> None:
    """A public key given as an identity too."""
    for wrong in (text, operator("x25519").public_pem(), b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text):
        with Secret.take(bytes(wrong)) as secret, pytest.raises(SealError, match="no private key") as caught:
            read_identity(secret, nobody_asks)
        assert shown_in(f"{caught.value!r} {caught.value} {caught.value.__cause__!r}") == []


def test_a_public_key_that_yields_no_secret_is_refused() -> None:
    """The point of order one would give everybody the same key."""
    zero = _pem(x25519.X25519PublicKey.from_public_bytes(bytes(32)))
    with Secret.take(bytes(MARKER)) as plain, pytest.raises(LuksctlError) as caught:
        seal(read_recipient(zero), plain, CONTEXT)
    assert isinstance(caught.value, SealError)
    assert shown_in(f"{caught.value!r} {caught.value.__cause__!r}") == []


def test_keys_are_not_in_the_repr() -> None:
    """Neither the library's objects nor anything of the private key."""
    who = operator("marker")
    assert shown_in(f"{who.identity()!r} {who.recipient()!r}") == []
    assert "fingerprint='sha256:" in repr(who.identity())
