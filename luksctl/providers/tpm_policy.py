"""Policy digests computed by us (TPM 2.0 Library, Part 3): what the TPM would say, before it is asked.

A policy that does not fit is then found, and explained, without a session; tests compare with the TPM's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from luksctl.hints import Final
from luksctl.providers.tpm_public import DIGEST_BYTES
from luksctl.value import frozen

PcrValues = Mapping[int, bytes]

# PCR 11 is what systemd-stub and the boot phases are measured into; the signature of a unified kernel image is over it.
SIGNED_PCR: Final = 11
LAST_PCR: Final = 23

_START: Final = bytes(DIGEST_BYTES)
_POLICY_PCR: Final = (0x17F).to_bytes(4)
_POLICY_AUTHORIZE: Final = (0x16A).to_bytes(4)
_SHA256: Final = b"\x00\x0b"
_SELECTOR_BYTES: Final = 3


@frozen
class Policy:
    """What has to hold for a key to be unsealed.

    `signed`: PCR 11 has a value that a known key signed. `bound`: these PCRs are what they were, in ascending order.
    """

    signed: bool
    bound: tuple[int, ...]

    @property
    def pcrs(self) -> tuple[int, ...]:
        """Return all PCRs that matter, in ascending order."""
        return tuple(sorted({*self.bound, SIGNED_PCR} if self.signed else self.bound))


def pcr_selection(pcrs: tuple[int, ...]) -> bytes:
    """Return the TPML_PCR_SELECTION of `pcrs` in the sha256 bank."""
    chosen = sum(1 << pcr for pcr in set(pcrs)).to_bytes(_SELECTOR_BYTES, "little")
    return (1).to_bytes(4) + _SHA256 + bytes([_SELECTOR_BYTES]) + chosen


def pcr_policy(values: PcrValues, pcrs: tuple[int, ...], start: bytes = _START) -> bytes:
    """Return the digest after PolicyPCR over `pcrs` having `values`, from the digest `start` on.

    The TPM hashes values by ascending number, whatever the order of the list.
    """
    held = hashlib.sha256(b"".join(values[pcr] for pcr in sorted(set(pcrs)))).digest()
    return hashlib.sha256(start + _POLICY_PCR + pcr_selection(pcrs) + held).digest()


def authorize_policy(key_name: bytes) -> bytes:
    """Return the digest after PolicyAuthorize by the key of that Name and no policyRef; nothing else goes into it."""
    named = hashlib.sha256(_START + _POLICY_AUTHORIZE + key_name).digest()
    return hashlib.sha256(named).digest()


def policy_digest(policy: Policy, key_name: bytes | None, values: PcrValues) -> bytes:
    """Return the digest that an object under `policy` is sealed to; `key_name` is that of the signing key."""
    start = _START if key_name is None else authorize_policy(key_name)
    return pcr_policy(values, policy.bound, start) if policy.bound else start
