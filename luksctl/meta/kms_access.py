"""Our own tag 0xE1: what it takes to reach the KMS of STATE before STATE, and the config in it, are open.

    {"version": 1, "endpoints": [{"endpoint", "also": [...]}], "allowPlaintext": bool, "network": text | null,
     "clockWaitSeconds": number, "roots": [PEM], "clientCertificate": PEM | null,
     "credential": null | {"clientKey": PEM | null, "token": text | null}
                        | {"tpm": {"private", "public", "srkName"}, "box"}}

Without a TPM the credential lies there in clear. In "box" it is encrypted under a key that only this TPM unseals.
"""

from __future__ import annotations

import base64
import binascii
import json

from luksctl.errors import MetaError
from luksctl.hints import Final
from luksctl.model.config import CLOCK_WAIT_S
from luksctl.model.meta import KeptAccess, KmsAccess, SealedCredential
from luksctl.secret import Secret

VERSION: Final = 1
# META has a quarter of a MiB for all tags together.
LONGEST_BYTES: Final = 64 * 1024
_LONGEST_S: Final = 86400.0


def encode(kept: KeptAccess) -> bytes:
    """Return the value of the tag; MetaError where it is too large for META."""
    access = kept.access
    document = {
        "version": VERSION,
        "endpoints": [{"endpoint": first, "also": list(others)} for first, others in access.alternatives],
        "allowPlaintext": access.allow_plaintext,
        "network": access.note,
        "clockWaitSeconds": access.clock_wait_s,
        "roots": list(access.roots),
        "clientCertificate": access.certificate,
        "credential": _encode_credential(kept),
    }
    value = json.dumps(document, separators=(",", ":")).encode("ascii")
    if len(value) > LONGEST_BYTES:
        raise MetaError(
            f"the certificates by which the KMS is reached need {len(value)} bytes in META, and have {LONGEST_BYTES}",
            volume="META",
            hint="name only the certificate authority of the KMS in the config",
        )
    return value


def decode(value: bytes) -> KeptAccess:
    """Return what the tag says; MetaError where it is damaged, or of a newer luksctl."""
    try:
        document = json.loads(value)
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise _damaged("it has no version that is known here")
        return _decode(document)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise _damaged("it is not what luksctl writes") from error


def _encode_credential(kept: KeptAccess) -> object:
    sealed, access = kept.sealed, kept.access
    if sealed is not None:
        tpm = {"private": sealed.private, "public": sealed.public, "srkName": sealed.srk_name}
        return {"tpm": {name: _base64(part) for name, part in tpm.items()}, "box": _base64(sealed.box)}
    if not access.has_credential:
        return None
    return {"clientKey": _shown(access.private_key), "token": _shown(access.token)}


def _decode(document: dict[str, object]) -> KeptAccess:
    credential = document["credential"]
    clear: dict[str, object] = {}
    sealed = None
    if isinstance(credential, dict):
        if "tpm" in credential:
            tpm = credential["tpm"]
            private, public, name = _bytes(tpm["private"]), _bytes(tpm["public"]), _bytes(tpm["srkName"])
            sealed = SealedCredential(private, public, name, _bytes(credential["box"]))
        else:
            clear = credential
    entries = document["endpoints"]
    if not isinstance(entries, list):
        raise TypeError(entries)
    access = KmsAccess(
        alternatives=tuple((_text(entry["endpoint"]), _texts(entry["also"])) for entry in entries),
        roots=_texts(document["roots"]),
        certificate=_optional(document["clientCertificate"]),
        private_key=_secret(clear.get("clientKey")),
        token=_secret(clear.get("token")),
        allow_plaintext=document["allowPlaintext"] is True,
        note=_optional(document["network"]),
        clock_wait_s=_seconds(document.get("clockWaitSeconds")),
    )
    return KeptAccess(access, sealed)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(_text(text), validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _shown(secret: Secret | None) -> str | None:
    if secret is None:
        return None
    with secret.view() as view:
        return bytes(view).decode("utf-8", "surrogateescape")


def _secret(text: object) -> Secret | None:
    return None if text is None else Secret.take(_text(text).encode("utf-8", "surrogateescape"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(element) for element in value)


def _seconds(value: object) -> float:
    """Return a wait; one that was not written, by an earlier luksctl, is as long as it is where no config says."""
    if value is None:
        return CLOCK_WAIT_S
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST_S:
        raise ValueError
    return float(value)


def _optional(value: object) -> str | None:
    return None if value is None else _text(value)


def _damaged(why: str) -> MetaError:
    return MetaError(
        f"tag 0xe1, how the KMS is reached before STATE is open, is damaged: {why}",
        volume="META",
        hint="once STATE is open, luksctl sync writes it anew",
    )
