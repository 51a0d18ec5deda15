"""A recovery key encrypted to an operator, as the JSON document that leaves the node; its fields: docs/recovery.md.

Every field but the encrypted one is authenticated: a document whose volume, slot or node was changed does not open.
Anyone can make such a document for a public key, so it proves nothing about who made it.
"""

from __future__ import annotations

from datetime import datetime

from luksctl.errors import RecoveryKeyMistyped, SealError
from luksctl.hints import Final
from luksctl.providers.recipient import Identity, Recipient
from luksctl.providers.recovery_key import read_recovery_key
from luksctl.providers.sealed_document import Form, open_document, read_document, seal_document
from luksctl.secret import Secret
from luksctl.value import frozen

_FORM: Final = Form("luksctl-recovery-key", "sealed recovery key", "read the sealed key")
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
    fields: dict[str, object] = {
        "node": place.node,
        "volume": place.volume,
        "headerUUID": place.header_uuid,
        "slot": place.slot,
    }
    return seal_document(_FORM, fields, key, recipient, created)


def read_sealed_key(text: bytes) -> SealedKey:
    """Return the document in `text`; SealError where it is none, or of a version that is not known here."""
    document = read_document(_FORM, text)
    fields = document.fields
    slot = fields.get("slot")
    if type(slot) is not int or slot not in _SLOTS:
        raise _FORM.wrong("slot")
    place = KeyPlace(fields["node"], fields["volume"], fields["headerUUID"], slot)
    return SealedKey(
        place, fields["created"], fields["recipient"], fields["algorithm"], document.sealed, document.context
    )


def open_sealed_key(document: SealedKey, identity: Identity) -> Secret:
    """Return the recovery key in its canonical text; SealError says what does not fit."""
    place = document.place

    def failed(cause: str, hint: str | None = None) -> SealError:
        return SealError(cause, volume=place.volume, slot=place.slot, operation="open the sealed key", hint=hint)

    with open_document(document, identity, failed) as opened:
        try:
            return read_recovery_key(opened)
        except RecoveryKeyMistyped:
            # Without the cause: which characters are wrong is the business of nobody who only reads logs.
            raise failed("what was encrypted is no recovery key") from None
