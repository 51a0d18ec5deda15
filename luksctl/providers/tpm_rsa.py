"""RSA public keys in PEM, as systemd-measure and openssl write them: two numbers, read without a cryptography library.

That library takes longer to load than the TPM to unseal, and nothing is computed here: who signed what, the TPM checks.
What is read is written again by the rules of DER and must come out the same, so there is one form of each key.
"""

from __future__ import annotations

import base64
import re

from luksctl.hints import Final
from luksctl.value import frozen

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", re.DOTALL)
_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_LONG_LENGTH: Final = 0x80
# AlgorithmIdentifier of rsaEncryption (RFC 8017, appendix C), and the BIT STRING begins with how many bits are unused.
_RSA: Final = bytes.fromhex("300d06092a864886f70d0101010500")
_ALL_BITS: Final = b"\x00"


@frozen
class RsaPublic:
    """The two numbers of a key."""

    modulus: int
    exponent: int

    @property
    def pkcs1(self) -> bytes:
        """Return the RSAPublicKey of PKCS #1 in DER."""
        return _element(_SEQUENCE, _integer(self.modulus) + _integer(self.exponent))

    @property
    def spki(self) -> bytes:
        """Return the SubjectPublicKeyInfo in DER."""
        return _element(_SEQUENCE, _RSA + _element(_BIT_STRING, _ALL_BITS + self.pkcs1))


def read_rsa_keys(content: bytes) -> tuple[RsaPublic, ...]:
    """Return the keys in a PEM file, in its order; ValueError where there is none, or a block is something else."""
    blocks = _BLOCK.findall(content)
    if not blocks:
        raise ValueError("no public key in PEM")
    return tuple(
        _key(label.decode("ascii"), base64.b64decode(b"".join(text.split()), validate=True)) for label, text in blocks
    )


def _key(label: str, der: bytes) -> RsaPublic:
    match label:
        case "PUBLIC KEY":
            outer, _ = _content(_SEQUENCE, der)
            _, algorithm_end = _content(_SEQUENCE, outer)
            if outer[:algorithm_end] != _RSA:
                raise ValueError("the key is not RSA, and only RSA keys sign PCR policies")
            bits, _ = _content(_BIT_STRING, outer[algorithm_end:])
            key = _numbers(bits.removeprefix(_ALL_BITS))
            written = key.spki
        case "RSA PUBLIC KEY":
            key = _numbers(der)
            written = key.pkcs1
        case _:
            raise ValueError(f"{label} is no public key")
    if written != der:
        raise ValueError("the key is not written as DER wants it")
    return key


def _numbers(pkcs1: bytes) -> RsaPublic:
    both, _ = _content(_SEQUENCE, pkcs1)
    modulus, modulus_end = _content(_INTEGER, both)
    exponent, _ = _content(_INTEGER, both[modulus_end:])
    return RsaPublic(int.from_bytes(modulus), int.from_bytes(exponent))


def _content(tag: int, der: bytes) -> tuple[bytes, int]:
    """Return what is in the element that `der` begins with, and where that ends."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError("not a public key in DER")
    start, length = 2, der[1]
    if length > _LONG_LENGTH:
        start += length - _LONG_LENGTH
        length = int.from_bytes(der[2:start])
    if len(der) < start + length:
        raise ValueError("not a public key in DER: it ends too early")
    return der[start : start + length], start + length


def _element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < _LONG_LENGTH:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, _LONG_LENGTH + size]) + length.to_bytes(size) + content


def _integer(number: int) -> bytes:
    # DER's integers have a sign, so one whose first bit is set gets a zero byte before it.
    return _element(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))
