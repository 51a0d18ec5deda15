"""A private key and a token for the KMS, encrypted so that only this machine's TPM gives them back.

Bound to the TPM, and to no PCR: what is kept out is the disk without the machine. A firmware update that locked the
node out of its KMS as well would take the last key there is along with the others.
"""

from __future__ import annotations

import json
import os

from luksctl.errors import KmsReason, KmsUnavailable, TpmReason, TpmRejected, TpmUnavailable
from luksctl.hints import Final
from luksctl.model.meta import KeptAccess, KmsAccess, SealedCredential
from luksctl.providers.tpm_connection import TpmConnection
from luksctl.providers.tpm_device import Sealed
from luksctl.providers.tpm_policy import Policy, policy_digest
from luksctl.secret import Secret
from luksctl.value import replace

_ANY_STATE: Final = Policy(signed=False, bound=())
_CONTEXT: Final = b"luksctl kms credential v1"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
# For these there is no TPM to seal in; all others may pass, and then nothing is written in clear meanwhile.
_NO_TPM: Final = frozenset({TpmReason.NO_DEVICE, TpmReason.NO_LIBRARY, TpmReason.NOT_TPM2})


def keep_access(access: KmsAccess, connection: TpmConnection) -> KeptAccess:
    """Return what META is to keep: the credential sealed and unsealed again, or in clear where the machine has no TPM.

    TpmUnavailable or TpmRejected where it has one that does not seal now.
    """
    if not access.has_credential:
        return KeptAccess(access)
    try:
        with connection.use() as tpm, Secret.random(_KEY_BYTES) as key:
            sealed = tpm.seal(key, policy_digest(_ANY_STATE, None, {}))
            box = _boxed(access, key)
    except (TpmUnavailable, TpmRejected) as error:
        if error.reason in _NO_TPM:
            return KeptAccess(access)
        raise
    credential = SealedCredential(sealed.private, sealed.public, sealed.srk_name, box)
    kept = KeptAccess(replace(access, private_key=None, token=None), credential)
    if kept_access(kept, connection) != access:
        raise TpmUnavailable("the TPM gave back another key than it was given", reason=TpmReason.FAILED)
    return kept


def kept_access(kept: KeptAccess, connection: TpmConnection) -> KmsAccess:
    """Return the access with its credential; TpmUnavailable, TpmRejected, or KmsUnavailable where it was damaged."""
    sealed = kept.sealed
    if sealed is None:
        return kept.access
    with connection.use() as tpm:
        key = tpm.unseal(Sealed(sealed.private, sealed.public, sealed.srk_name), _ANY_STATE, None)
    with key:
        return _unboxed(kept.access, key, sealed.box)


def _boxed(access: KmsAccess, key: Secret) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # seldom needed

    content = {"clientKey": _text(access.private_key), "token": _text(access.token)}
    nonce = os.urandom(_NONCE_BYTES)
    with key.view() as view:
        return nonce + AESGCM(bytes(view)).encrypt(nonce, json.dumps(content).encode(), _CONTEXT)


def _unboxed(access: KmsAccess, key: Secret, box: bytes) -> KmsAccess:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # as above

    try:
        with key.view() as view:
            content = json.loads(AESGCM(bytes(view)).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], _CONTEXT))
    except (InvalidTag, ValueError) as error:
        raise KmsUnavailable(
            "META tag 0xe1: the credential for the KMS was changed",
            reason=KmsReason.NO_FILE,
            hint="once STATE is open, luksctl sync writes it anew",
        ) from error
    return replace(access, private_key=_secret(content["clientKey"]), token=_secret(content["token"]))


def _text(secret: Secret | None) -> str | None:
    if secret is None:
        return None
    with secret.view() as view:
        return bytes(view).decode("utf-8", "surrogateescape")


def _secret(text: str | None) -> Secret | None:
    return None if text is None else Secret.take(text.encode("utf-8", "surrogateescape"))
