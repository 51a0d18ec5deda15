"""Public areas of the three TPM objects that a tpm key needs, as the bytes the TPM hashes (TPM 2.0 Library, Part 2).

Bytes and not fields of a library: a Name and a policy digest are hashes over exactly these.
"""

from __future__ import annotations

import hashlib

from luksctl.hints import Final

SHA256: Final = b"\x00\x0b"
_NULL: Final = b"\x00\x10"
_RSA: Final = b"\x00\x01"
_KEYEDHASH: Final = b"\x00\x08"
_RSASSA: Final = b"\x00\x14"
_ECC: Final = b"\x00\x23"
_P256: Final = b"\x00\x03"
AES_128_CFB: Final = b"\x00\x06\x00\x80\x00\x43"

_FIXED_TPM: Final = 0x2
_FIXED_PARENT: Final = 0x10
_SENSITIVE_DATA_ORIGIN: Final = 0x20
_USER_WITH_AUTH: Final = 0x40
_NO_DA: Final = 0x400
_RESTRICTED: Final = 0x1_0000
_DECRYPT: Final = 0x2_0000
_SIGN: Final = 0x4_0000
_SRK_ATTRIBUTES: Final = (
    _FIXED_TPM | _FIXED_PARENT | _SENSITIVE_DATA_ORIGIN | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _DECRYPT
)

DIGEST_BYTES: Final = 32
# TPM2B_NAME of an object whose nameAlg is SHA-256: the size, the algorithm, the hash.
NAME_BYTES: Final = 2 + 2 + DIGEST_BYTES
_POLICY_START: Final = 10


def sized(content: bytes) -> bytes:
    """Return `content` as a TPM2B: its length in two bytes before it."""
    return len(content).to_bytes(2) + content


def srk_template() -> bytes:
    """Return the TPMT_PUBLIC that the storage root key is derived from: ECC P-256, the unique field all zeros."""
    unique = sized(bytes(DIGEST_BYTES)) * 2
    return _ECC + SHA256 + _SRK_ATTRIBUTES.to_bytes(4) + sized(b"") + AES_128_CFB + _NULL + _P256 + _NULL + unique


def sealed_template(policy: bytes) -> bytes:
    """Return the TPMT_PUBLIC of an object that only `policy` unseals: without userWithAuth, no password does."""
    attributes = (_FIXED_TPM | _FIXED_PARENT | _NO_DA).to_bytes(4)
    return _KEYEDHASH + SHA256 + attributes + sized(policy) + _NULL + sized(b"")


def policy_of(public: bytes) -> bytes | None:
    """Return the policy of a sealed object's TPM2B_PUBLIC; None where it is no such object."""
    area = public[2:]
    policy_end = _POLICY_START + DIGEST_BYTES
    head_holds = area[:4] == _KEYEDHASH + SHA256 and area[8:_POLICY_START] == DIGEST_BYTES.to_bytes(2)
    tail = area[policy_end:]
    whole = tail[:4] == _NULL + DIGEST_BYTES.to_bytes(2) and len(tail) == 4 + DIGEST_BYTES
    return area[_POLICY_START:policy_end] if head_holds and whole and is_sized(public) else None


def is_sized(content: bytes) -> bool:
    """Tell whether `content` is one TPM2B that is not empty."""
    return len(content) > 2 and int.from_bytes(content[:2]) == len(content) - 2


def rsa_public(modulus: int, exponent: int) -> bytes:
    """Return the TPMT_PUBLIC of a PCR signing key as Talos and systemd load it.

    The exponent is written out: 0, which means 65537 to a TPM as well, would make another Name.
    """
    bits = modulus.bit_length()
    attributes = (_DECRYPT | _SIGN | _USER_WITH_AUTH).to_bytes(4)
    details = _NULL + _NULL + bits.to_bytes(2) + exponent.to_bytes(4)
    return _RSA + SHA256 + attributes + sized(b"") + details + sized(modulus.to_bytes((bits + 7) // 8))


def rsa_signature(signature: bytes) -> bytes:
    """Return the TPMT_SIGNATURE of an RSASSA signature over SHA-256."""
    return _RSASSA + SHA256 + sized(signature)


def name_of(public: bytes) -> bytes:
    """Return the Name (without a size) of the object with this TPMT_PUBLIC."""
    return SHA256 + hashlib.sha256(public).digest()
