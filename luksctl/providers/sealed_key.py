"""A recovery key encrypted to an operator, as the JSON document that leaves the node; its fields: docs/recovery.md.

Every field but the encrypted one is authenticated: a document whose volume, slot or node was changed does not open.
Anyone can make such a document for a public key, so it proves nothing about who made it.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from luksctl.errors import RecoveryKeyMistyped, SealError
from luksctl.hints import Any, Final
from luksctl.providers.recipient import Identity, Recipient, seal, unseal
from luksctl.providers.recovery_key import read_recovery_key
from luksctl.secret import Secret
from luksctl.value import frozen

_KIND: Final = "luksctl-recovery-key"
_VERSION: Final = 1
_SEALED: Final = "sealed"
_TEXTS: Final = ("node", "volume", "headerUUID", "created", "recipient", "algorithm", _SEALED)
_SLOTS: Final = range(32)


@frozen
class KeyPlace:
    """Which keyslot a recovery key is for. `node` is the name that the operator knows the machine by."""

    node: str
    volume: str
    header_uuid: str
    slot: int


@frozen
class SealedKey:
    """A document as it was read; nothing in it is known to be true before it was opened.

    `created` is RFC 3339 in UTC, `recipient` a fingerprint, `context` what is authenticated.
    """

    place: KeyPlace
    created: str
    recipient: str
    algorithm: str
    sealed: bytes
    context: bytes


def seal_recovery_key(key: Secret, place: KeyPlace, recipient: Recipient, created: datetime) -> dict[str, object]:
    """Return the document for `key`, the text that is in the keyslot; `created` has a time zone."""
    document: dict[str, object] = {
        "kind": _KIND,
        "version": _VERSION,
        "node": place.node,
        "volume": place.volume,
        "headerUUID": place.header_uuid,
        "slot": place.slot,
        "created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "recipient": recipient.fingerprint,
        "algorithm": recipient.algorithm.value,
    }
    return document | {_SEALED: base64.b64encode(seal(recipient, key, _context(document))).decode()}


def read_sealed_key(text: bytes) -> SealedKey:
    """Return the document in `text`; SealError where it is none, or of a version that is not known here."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SealError("this is no JSON", operation="read the sealed key") from error
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise SealError("this is no sealed recovery key", operation="read the sealed key")
    version = document.get("version")
    if type(version) is not int or version != _VERSION:  # True equals 1
        raise SealError(
            "it is of a version that this luksctl does not know",
            operation="read the sealed key",
            hint="open it with a newer luksctl",
        )
    slot = document.get("slot")
    if type(slot) is not int or slot not in _SLOTS:
        raise _field_wrong("slot")
    for name in _TEXTS:
        if not isinstance(document.get(name), str):
            raise _field_wrong(name)
    return _sealed_key(document)


def open_sealed_key(document: SealedKey, identity: Identity) -> Secret:
    """Return the recovery key in its canonical text; SealError says what does not fit."""
    if document.recipient != identity.fingerprint:
        raise _place_error(
            document,
            f"it was encrypted to another key: {document.recipient}; this one is {identity.fingerprint}",
            hint="open it with the private key of that fingerprint",
        )
    if document.algorithm != identity.algorithm.value:
        raise _place_error(document, f"the algorithm {document.algorithm!r} does not belong to this kind of key")
    try:
        opened = unseal(identity, document.sealed, document.context)
    except SealError as error:
        raise _place_error(document, error.cause, hint=error.hint) from error
    with opened:
        try:
            return read_recovery_key(opened)
        except RecoveryKeyMistyped:
            # Without the cause: which characters are wrong is the business of nobody who only reads logs.
            raise _place_error(document, "what was encrypted is no recovery key") from None


def _sealed_key(document: dict[str, Any]) -> SealedKey:
    try:
        sealed = base64.b64decode(document[_SEALED], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _field_wrong(_SEALED) from error
    return SealedKey(
        KeyPlace(document["node"], document["volume"], document["headerUUID"], document["slot"]),
        document["created"],
        document["recipient"],
        document["algorithm"],
        sealed,
        _context({name: value for name, value in document.items() if name != _SEALED}),
    )


def _context(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")


def _field_wrong(name: str) -> SealError:
    return SealError(f"the field {name} is missing or wrong", operation="read the sealed key")


def _place_error(document: SealedKey, cause: str, *, hint: str | None = None) -> SealError:
    place = document.place
    return SealError(cause, volume=place.volume, slot=place.slot, operation="open the sealed key", hint=hint)
