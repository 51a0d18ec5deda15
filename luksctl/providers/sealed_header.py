"""A header backup encrypted to an operator, as one JSON document; its fields: docs/header-backups.md.

Every field but the encrypted one is authenticated, as in a sealed recovery key. Anyone can make such a document for a
public key: what it holds is checked against the volume before it is restored.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from datetime import UTC, datetime

from luksctl.errors import SealError
from luksctl.hints import Any, Final
from luksctl.providers.recipient import Identity, Recipient, seal, unseal
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import frozen

_KIND: Final = "luksctl-header-backup"
_VERSION: Final = 1
_SEALED: Final = "sealed"
_TEXTS: Final = ("node", "volume", "headerUUID", "created", "recipient", "algorithm", _SEALED)
# The largest header there is: two copies of 4 MiB, and 128 MiB of key areas. More is nothing but memory gone.
_LONGEST_BYTES: Final = 136 * MIB
_READING: Final = "read the header backup"


@frozen
class HeaderPlace:
    """Which header was saved, and how it was. `counter` is that of the bookkeeping, None where there is none."""

    node: str
    volume: str
    header_uuid: str
    seqid: int
    counter: int | None
    slots: tuple[int, ...]


@frozen
class SealedHeader:
    """A document as it was read; nothing in it is known to be true before it was opened.

    `created` is RFC 3339 in UTC, `recipient` a fingerprint, `context` what is authenticated.
    """

    place: HeaderPlace
    created: str
    recipient: str
    algorithm: str
    sealed: bytes
    context: bytes


def seal_header(content: bytes, place: HeaderPlace, recipient: Recipient, created: datetime) -> dict[str, object]:
    """Return the document for the backup file `content`; `created` has a time zone."""
    document: dict[str, object] = {
        "kind": _KIND,
        "version": _VERSION,
        "node": place.node,
        "volume": place.volume,
        "headerUUID": place.header_uuid,
        "seqid": place.seqid,
        "counter": place.counter,
        "slots": list(place.slots),
        "created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "recipient": recipient.fingerprint,
        "algorithm": recipient.algorithm.value,
    }
    # Most of it is zeros: what no keyslot uses.
    with Secret.take(zlib.compress(content)) as packed:
        sealed = seal(recipient, packed, _context(document))
    return document | {_SEALED: base64.b64encode(sealed).decode()}


def is_sealed_header(content: bytes) -> bool:
    """Tell such a document, by its first character, from a header as it is."""
    return content.lstrip()[:1] == b"{"


def read_sealed_header(content: bytes) -> SealedHeader:
    """Return the document in `content`; SealError where it is none, or of a version that is not known here."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SealError("this is no JSON", operation=_READING) from error
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise SealError("this is no sealed header backup", operation=_READING)
    version = document.get("version")
    if type(version) is not int or version != _VERSION:  # True equals 1
        hint = "read it with a newer luksctl"
        raise SealError("it is of a version that this luksctl does not know", operation=_READING, hint=hint)
    for name in _TEXTS:
        if not isinstance(document.get(name), str):
            raise _field_wrong(name)
    return _sealed_header(document)


def open_sealed_header(document: SealedHeader, identity: Identity) -> bytes:
    """Return the content of the backup file; SealError says what does not fit."""
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
    unpacker = zlib.decompressobj()
    with opened, opened.view() as view:
        try:
            content = unpacker.decompress(view, _LONGEST_BYTES)
        except zlib.error as error:
            raise _place_error(document, "what was encrypted is no header backup") from error
    if not unpacker.eof:
        raise _place_error(document, "what was encrypted is no header backup")
    return content


def _sealed_header(document: dict[str, Any]) -> SealedHeader:
    try:
        sealed = base64.b64decode(document[_SEALED], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _field_wrong(_SEALED) from error
    slots, counter = document.get("slots"), document.get("counter")
    if not isinstance(slots, list) or any(type(slot) is not int for slot in slots):
        raise _field_wrong("slots")
    if counter is not None and type(counter) is not int:
        raise _field_wrong("counter")
    if type(document.get("seqid")) is not int:
        raise _field_wrong("seqid")
    return SealedHeader(
        HeaderPlace(
            document["node"],
            document["volume"],
            document["headerUUID"],
            document["seqid"],
            counter,
            tuple(slots),
        ),
        document["created"],
        document["recipient"],
        document["algorithm"],
        sealed,
        _context({name: value for name, value in document.items() if name != _SEALED}),
    )


def _context(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")


def _field_wrong(name: str) -> SealError:
    return SealError(f"the field {name} is missing or wrong", operation=_READING)


def _place_error(document: SealedHeader, cause: str, *, hint: str | None = None) -> SealError:
    return SealError(cause, volume=document.place.volume, operation="open the header backup", hint=hint)
