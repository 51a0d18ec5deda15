"""What documents that are encrypted to an operator have in common: one field is sealed, all others authenticated."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from datetime import UTC, datetime

from luksctl.errors import SealError
from luksctl.hints import Any, Final, Protocol
from luksctl.providers.recipient import Identity, Recipient, seal, unseal
from luksctl.secret import Secret
from luksctl.value import frozen

_VERSION: Final = 1
_SEALED: Final = "sealed"
_TEXTS: Final = ("node", "volume", "headerUUID", "created", "recipient", "algorithm", _SEALED)


@frozen
class Form:
    """One kind of document: its `kind` field, what it is in words, and what reading it is called in errors."""

    kind: str
    what: str
    reading: str

    def wrong(self, name: str) -> SealError:
        """Return the error for a field that is missing or wrong."""
        return SealError(f"the field {name} is missing or wrong", operation=self.reading)


@frozen
class Document:
    """A document as it was read; nothing in it is known to be true. `context` is what is authenticated."""

    fields: dict[str, Any]
    sealed: bytes
    context: bytes


class Sealed(Protocol):
    """What opening needs of a document that was read."""

    @property
    def recipient(self) -> str:
        """Return the fingerprint of the key that it was encrypted to."""

    @property
    def algorithm(self) -> str:
        """Return how."""

    @property
    def sealed(self) -> bytes:
        """Return what was encrypted."""

    @property
    def context(self) -> bytes:
        """Return what is authenticated."""


def seal_document(
    form: Form, place: dict[str, object], content: Secret, recipient: Recipient, created: datetime
) -> dict[str, object]:
    """Return the document for `content`, with the fields of `place`; `created` has a time zone."""
    document: dict[str, object] = {
        "kind": form.kind,
        "version": _VERSION,
        **place,
        "created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "recipient": recipient.fingerprint,
        "algorithm": recipient.algorithm.value,
    }
    return document | {_SEALED: base64.b64encode(seal(recipient, content, _context(document))).decode()}


def read_document(form: Form, text: bytes) -> Document:
    """Return the document in `text`; SealError where it is none, or of a version that is not known here."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SealError("this is no JSON", operation=form.reading) from error
    if not isinstance(fields, dict) or fields.get("kind") != form.kind:
        raise SealError(f"this is no {form.what}", operation=form.reading)
    version = fields.get("version")
    if type(version) is not int or version != _VERSION:  # True equals 1
        cause = "it is of a version that this luksctl does not know"
        raise SealError(cause, operation=form.reading, hint="open it with a newer luksctl")
    for name in _TEXTS:
        if not isinstance(fields.get(name), str):
            raise form.wrong(name)
    try:
        sealed = base64.b64decode(fields[_SEALED], validate=True)
    except (binascii.Error, ValueError) as error:
        raise form.wrong(_SEALED) from error
    return Document(fields, sealed, _context({name: value for name, value in fields.items() if name != _SEALED}))


def open_document(document: Sealed, identity: Identity, failed: Callable[[str, str | None], SealError]) -> Secret:
    """Return what was sealed; raises what `failed` makes of a cause and a hint where `identity` does not open it."""
    if document.recipient != identity.fingerprint:
        cause = f"it was encrypted to another key: {document.recipient}; this one is {identity.fingerprint}"
        raise failed(cause, "open it with the private key of that fingerprint")
    if document.algorithm != identity.algorithm.value:
        raise failed(f"the algorithm {document.algorithm!r} does not belong to this kind of key", None)
    try:
        return unseal(identity, document.sealed, document.context)
    except SealError as error:
        raise failed(error.cause, error.hint) from error


def _context(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
