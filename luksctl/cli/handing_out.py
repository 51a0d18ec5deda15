"""A new recovery key leaves the node: as its text, shown once, or encrypted to an operator's public key."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from luksctl.cli.attached import read_bytes
from luksctl.cli.console import Console
from luksctl.cli.parser import Parser, Takes
from luksctl.hints import TYPE_CHECKING
from luksctl.providers.recipient import Recipient, read_recipient
from luksctl.providers.sealed_key import KeyPlace, seal_recovery_key
from luksctl.secret import Secret

if TYPE_CHECKING:
    from luksctl.node.recovery import Place, Show


def add_recipient(parser: Parser) -> None:
    """Add the option that names who the key is encrypted to."""
    parser.add_sent(
        Takes.FILE,
        "--recipient",
        metavar="FILE",
        help="print the key only encrypted to this public key (PEM, or a line of OpenSSH), as JSON",
    )


def handing_out(recipient_file: str | None, console: Console) -> Show:
    """Return what hands a key out; the public key is read now, so a wrong file stops everything before it begins.

    What it wrote is flushed when it returns: a reader that is gone, or a full disk, is its error.
    """
    if recipient_file is None:
        return lambda place, key: _as_text(place, key, console)
    recipient = read_recipient(read_bytes(recipient_file)[0])
    return lambda place, key: _encrypted(place, key, recipient, console)


def _as_text(place: Place, key: Secret, console: Console) -> None:
    fields: dict[str, object] = {"volume": place.volume, "headerUUID": place.header_uuid, "slot": place.slot}
    with key.view() as view:
        if console.json:
            console.hand_out(fields | {"recoveryKey": str(view, "ascii")})
        else:
            for name, value in fields.items():
                console.note(f"{name}: {value}")
            console.note("Write it down now: it is shown once, and stored nowhere.")
            console.raw(view)
            console.say()
    console.out.flush()


def _encrypted(place: Place, key: Secret, recipient: Recipient, console: Console) -> None:
    name = os.uname().nodename
    sealed = seal_recovery_key(
        key, KeyPlace(name, place.volume, place.header_uuid, place.slot), recipient, datetime.now(UTC)
    )
    console.hand_out(sealed)
