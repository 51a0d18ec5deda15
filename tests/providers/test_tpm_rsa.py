"""RSA keys read by us are those that a cryptography library reads, and nothing else passes for one."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from luksctl.providers.tpm_rsa import RsaPublic, read_rsa_keys
from tests.providers.measured_boot import pem, signing_key

FORMS = [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1]
NUMBERS = st.builds(
    RsaPublic,
    modulus=st.integers(2**1023, 2**4096).map(lambda number: number | 1),
    exponent=st.integers(3, 2**40).map(lambda number: number | 1),
)
WHOLE = base64.b64decode(b"".join(pem(signing_key(0)).splitlines()[1:-1]))


def armoured(der: bytes, label: str = "PUBLIC KEY") -> bytes:
    """Return `der` in PEM."""
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), base64.encodebytes(der), label.encode())


@pytest.mark.parametrize("form", FORMS, ids=["spki", "pkcs1"])
@given(numbers=NUMBERS)
def test_a_key_of_any_size_is_read_and_written(form: PublicFormat, numbers: RsaPublic) -> None:
    """In both forms, as the library writes them."""
    key = rsa.RSAPublicNumbers(numbers.exponent, numbers.modulus).public_key()
    assert read_rsa_keys(key.public_bytes(Encoding.PEM, form)) == (numbers,)
    written = {PublicFormat.SubjectPublicKeyInfo: numbers.spki, PublicFormat.PKCS1: numbers.pkcs1}[form]
    assert written == key.public_bytes(Encoding.DER, form)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
def test_other_kinds_are_named(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    """Only RSA signs PCR policies."""
    content = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="not RSA"):
        read_rsa_keys(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no public key in PEM"),
        (armoured(WHOLE, "CERTIFICATE"), "CERTIFICATE is no public key"),
        (armoured(b""), "not a public key in DER"),
        (armoured(WHOLE[:-1]), "ends too early"),
        (armoured(WHOLE + b"\0"), "not written as DER wants it"),
        (armoured(WHOLE[:4] + b"\x31" + WHOLE[5:]), "not a public key in DER"),
        (b"-----BEGIN PUBLIC KEY-----\nAAA\n-----END PUBLIC KEY-----\n", "padding"),
    ],
)
def test_what_is_no_key_is_refused(content: bytes, told: str) -> None:
    """With the reason."""
    with pytest.raises(ValueError, match=told):
        read_rsa_keys(content)


@given(at=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_a_changed_byte_makes_another_key_or_none(at: int, value: int) -> None:
    """What passes is a key that the library reads so, too."""
    content = armoured(WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :])
    try:
        (read,) = read_rsa_keys(content)
        theirs = load_pem_public_key(content)
    except ValueError:
        return
    assert isinstance(theirs, rsa.RSAPublicKey)
    numbers = theirs.public_numbers()
    assert read == RsaPublic(numbers.n, numbers.e)


@given(der=st.binary(max_size=40), label=st.sampled_from(["PUBLIC KEY", "RSA PUBLIC KEY"]))
def test_any_content_is_refused_with_a_reason(der: bytes, label: str) -> None:
    """Nothing but ValueError is raised."""
    with pytest.raises(ValueError, match=r"\w"):
        read_rsa_keys(armoured(der, label))
