"""The signed PCR policy as systemd-measure writes it: public keys in PEM, signatures in JSON.

One image may be signed by several keys and for several boot phases, and a file may hold entries for images that are
not running: only what fits the present PCR 11 and a known key counts, everything else is left alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator

from luksctl.hints import Final
from luksctl.providers.tpm_eventlog import EVENT_LOG
from luksctl.providers.tpm_policy import SIGNED_PCR, PcrValues, pcr_policy
from luksctl.providers.tpm_public import name_of, rsa_public
from luksctl.providers.tpm_rsa import RsaPublic, read_rsa_keys
from luksctl.value import frozen

_BANK: Final = "sha256"
# What a TPM structure has room for.
_LARGEST_EXPONENT: Final = 2**32 - 1
_LARGEST_KEY_BITS: Final = 4096


@frozen
class PcrKey:
    """A key that signs PCR policies: its TPMT_PUBLIC, the SHA-256 of its PKCS#1 DER, and the file it was found in."""

    public: bytes
    fingerprint: str
    source: str

    @property
    def name(self) -> bytes:
        """Return the Name that policies hold."""
        return name_of(self.public)


@frozen
class PcrSignature:
    """One entry of a signature file that is about PCR 11 alone: `digest` is the policy that was signed."""

    fingerprint: str
    digest: bytes
    signature: bytes


@frozen
class SignedPolicy:
    """All keys and signatures of this node, in the order of the files; `problems` are files that do not serve.

    `event_log` is where firmware noted what it measured.
    """

    keys: tuple[PcrKey, ...] = ()
    signatures: tuple[PcrSignature, ...] = ()
    problems: tuple[str, ...] = ()
    event_log: str = EVENT_LOG

    def approvals(self, key: PcrKey, values: PcrValues) -> Iterator[PcrSignature]:
        """Yield the signatures of `key` for what PCR 11 holds in `values`."""
        digest = pcr_policy(values, (SIGNED_PCR,))
        return (entry for entry in self.signatures_of(key) if entry.digest == digest)

    def signatures_of(self, key: PcrKey) -> Iterator[PcrSignature]:
        """Yield all signatures that claim to be of `key`."""
        return (entry for entry in self.signatures if entry.fingerprint == key.fingerprint)


def read_public_keys(content: bytes, source: str) -> tuple[PcrKey, ...]:
    """Return the RSA keys in a PEM file, usually one; ValueError where there is none, or one of another kind."""
    return tuple(_key(key, source) for key in read_rsa_keys(content))


def _key(key: RsaPublic, source: str) -> PcrKey:
    if not (key.modulus.bit_length() <= _LARGEST_KEY_BITS and 0 < key.exponent <= _LARGEST_EXPONENT):
        raise ValueError("the key is larger than a TPM takes")
    return PcrKey(rsa_public(key.modulus, key.exponent), hashlib.sha256(key.pkcs1).hexdigest(), source)


def read_signatures(content: bytes) -> tuple[PcrSignature, ...]:
    """Return the sha256 entries over PCR 11 in a signature file; ValueError where it is none."""
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    entries = document.get(_BANK, [])
    if not isinstance(entries, list):
        raise ValueError(f"{_BANK} is not a list")
    return tuple(entry for entry in map(_entry, entries) if entry is not None)


def _entry(entry: object) -> PcrSignature | None:
    """Return one entry, None where it is not one of ours to use: the file may be newer than we are."""
    if not isinstance(entry, dict) or entry.get("pcrs") != [SIGNED_PCR]:
        return None
    fingerprint, digest, signature = entry.get("pkfp"), entry.get("pol"), entry.get("sig")
    if not (isinstance(fingerprint, str) and isinstance(digest, str) and isinstance(signature, str)):
        return None
    try:
        read = PcrSignature(fingerprint.lower(), bytes.fromhex(digest), base64.b64decode(signature, validate=True))
    except (binascii.Error, ValueError):
        return None
    return read if len(read.signature) * 8 <= _LARGEST_KEY_BITS else None
