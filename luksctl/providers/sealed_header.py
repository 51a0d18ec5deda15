"""A header backup encrypted to an operator, as one JSON document; its fields: docs/header-backups.md.

Every field but the encrypted one is authenticated, as in a sealed recovery key. Anyone can make such a document for a
public key: what it holds is checked against the volume before it is restored.
"""

from __future__ import annotations

import zlib
from datetime import datetime

from luksctl.errors import SealError
from luksctl.hints import Final
from luksctl.providers.recipient import Identity, Recipient
from luksctl.providers.sealed_document import Form, open_document, read_document, seal_document
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import frozen

_FORM: Final = Form("luksctl-header-backup", "sealed header backup", "read the header backup")
# The largest header there is: two copies of 4 MiB, and 128 MiB of key areas. More is nothing but memory gone.
_LONGEST_BYTES: Final = 136 * MIB


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
    fields: dict[str, object] = {
        "node": place.node,
        "volume": place.volume,
        "headerUUID": place.header_uuid,
        "seqid": place.seqid,
        "counter": place.counter,
        "slots": list(place.slots),
    }
    # Most of it is zeros: what no keyslot uses.
    with Secret.take(zlib.compress(content)) as packed:
        return seal_document(_FORM, fields, packed, recipient, created)


def is_sealed_header(content: bytes) -> bool:
    """Tell such a document, by its first character, from a header as it is."""
    return content.lstrip()[:1] == b"{"


def read_sealed_header(content: bytes) -> SealedHeader:
    """Return the document in `content`; SealError where it is none, or of a version that is not known here."""
    document = read_document(_FORM, content)
    fields = document.fields
    slots, counter, seqid = fields.get("slots"), fields.get("counter"), fields.get("seqid")
    if not isinstance(slots, list) or any(type(slot) is not int for slot in slots):
        raise _FORM.wrong("slots")
    if counter is not None and type(counter) is not int:
        raise _FORM.wrong("counter")
    if type(seqid) is not int:
        raise _FORM.wrong("seqid")
    place = HeaderPlace(fields["node"], fields["volume"], fields["headerUUID"], seqid, counter, tuple(slots))
    return SealedHeader(
        place, fields["created"], fields["recipient"], fields["algorithm"], document.sealed, document.context
    )


def open_sealed_header(document: SealedHeader, identity: Identity) -> bytes:
    """Return the content of the backup file; SealError says what does not fit."""

    def failed(cause: str, hint: str | None = None) -> SealError:
        return SealError(cause, volume=document.place.volume, operation="open the header backup", hint=hint)

    unpacker = zlib.decompressobj()
    with open_document(document, identity, failed) as opened, opened.view() as view:
        try:
            content = unpacker.decompress(view, _LONGEST_BYTES)
        except zlib.error as error:
            raise failed("what was encrypted is no header backup") from error
    if not unpacker.eof:
        raise failed("what was encrypted is no header backup")
    return content
