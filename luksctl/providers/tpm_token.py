"""The `talos-tpm2` token, both versions that Talos wrote: 1.12 and later, and 1.5 to 1.11 (talos-formats 2.3).

Written as Talos writes it: these fields, in this order, compact. Read strictly where a value counts, and tolerant of
fields nobody knows yet.
"""

from __future__ import annotations

import base64
import binascii

from luksctl.errors import TokenInvalid
from luksctl.hints import Any, Final
from luksctl.providers.talos_token import read_talos_token, write_talos_token
from luksctl.providers.tpm_policy import LAST_PCR, SIGNED_PCR, Policy
from luksctl.providers.tpm_public import DIGEST_BYTES, NAME_BYTES, is_sized, policy_of
from luksctl.value import frozen

TYPE: Final = "talos-tpm2"
VERSION: Final = "1"
_ALGORITHM: Final = "sha256"
_PCRS: Final = range(LAST_PCR + 1)
_SLOTS: Final = range(32)
# Before it had a version, a token named PCR 11, which is signed, and meant PCR 7 as well.
_OLD_BOUND: Final = (7,)
_LONGEST_BLOB_BYTES: Final = 4096


@frozen
class TpmToken:
    """What the token of a tpm key holds; `private`, `public` and `srk_name` with their size in front.

    `version` is empty in tokens of Talos 1.5 to 1.11, whose `pcrs` are the signed ones; in later ones they are bound.
    """

    slot: int
    private: bytes
    public: bytes
    pcrs: tuple[int, ...]
    signed_pcrs: tuple[int, ...]
    policy_hash: bytes
    srk_name: bytes
    version: str = VERSION

    @property
    def policy(self) -> Policy:
        """Return what unseals the key; a token with a version and without signed PCRs is our own literal form."""
        if self.version:
            return Policy(bool(self.signed_pcrs), self.pcrs)
        old = not self.signed_pcrs and self.pcrs == (SIGNED_PCR,)
        return Policy(signed=True, bound=_OLD_BOUND if old else ())


def write_token(token: TpmToken) -> str:
    """Return the JSON of `token`."""
    data: dict[str, object] = {
        "keyslots": [token.slot],
        "sealed_blob_private": _encoded(token.private),
        "sealed_blob_public": _encoded(token.public),
    }
    if token.pcrs:
        data["pcrs"] = list(token.pcrs)
    if token.signed_pcrs:
        data["pubkey_pcrs"] = list(token.signed_pcrs)
    data["alg"] = _ALGORITHM
    if token.version:
        data["encryption_version"] = token.version
    data["policy_hash"] = _encoded(token.policy_hash)
    data["key_name"] = _encoded(token.srk_name)
    return write_talos_token(TYPE, data)


def read_token(text: str | None) -> TpmToken:
    """Return the token in `text`; TokenInvalid where there is none, or one that no TPM can ever unseal."""
    data = read_talos_token(text, TYPE, "tpm")
    if data.get("alg") != _ALGORITHM:
        raise _wrong("alg")
    version = data.get("encryption_version", "")
    if not isinstance(version, str):
        raise _wrong("encryption_version")
    signed_pcrs = _numbers(data, "pubkey_pcrs", _PCRS)
    if signed_pcrs not in ((), (SIGNED_PCR,)):
        raise _wrong("pubkey_pcrs")
    pcrs = _numbers(data, "pcrs", _PCRS)
    # No TPM unseals what Talos sealed to an unsorted list: it hashed the values in the order of the list.
    if pcrs != tuple(sorted(set(pcrs))):
        raise _wrong("pcrs")
    slots = _numbers(data, "keyslots", _SLOTS)
    if len(slots) != 1:
        raise _wrong("keyslots")
    policy_hash = _blob(data, "policy_hash")
    public = _sized_blob(data, "sealed_blob_public")
    if len(policy_hash) != DIGEST_BYTES or policy_of(public) != policy_hash:
        raise _wrong("policy_hash")
    srk_name = _sized_blob(data, "key_name")
    if len(srk_name) != NAME_BYTES:
        raise _wrong("key_name")
    private = _sized_blob(data, "sealed_blob_private")
    token = TpmToken(slots[0], private, public, pcrs, signed_pcrs, policy_hash, srk_name, version)
    if not token.policy.pcrs:
        # Bound to nothing: nobody seals so, and it would be unsealed whatever was booted.
        raise _wrong("pcrs")
    return token


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _blob(data: dict[str, Any], name: str) -> bytes:
    text = data.get(name)
    if not isinstance(text, str) or len(text) > _LONGEST_BLOB_BYTES:
        raise _wrong(name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(name) from error


def _sized_blob(data: dict[str, Any], name: str) -> bytes:
    content = _blob(data, name)
    if not is_sized(content):
        raise _wrong(name)
    return content


def _numbers(data: dict[str, Any], name: str, allowed: range) -> tuple[int, ...]:
    listed = data.get(name)
    if listed is None:
        return ()
    if not isinstance(listed, list) or any(type(number) is not int or number not in allowed for number in listed):
        raise _wrong(name)
    return tuple(listed)


def _wrong(name: str) -> TokenInvalid:
    return TokenInvalid(f"the token's {name} is not what a TPM key has")
