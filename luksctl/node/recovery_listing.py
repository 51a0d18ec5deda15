"""Which recovery keys a header lists, and which of them want something done. Reads only, and derives no key."""

from __future__ import annotations

from luksctl.model.bookkeeping import Purpose
from luksctl.model.header import LuksHeader
from luksctl.node.checked import timestamp
from luksctl.node.node import Node
from luksctl.node.recovery_record import verified_at
from luksctl.node.sources import state_directory
from luksctl.reconcile.books import unverified
from luksctl.value import frozen


@frozen
class RecoverySlot:
    """One recovery key as the bookkeeping lists it; times are RFC 3339.

    `present` is False where another tool removed the keyslot. `verified_at` None: never, as far as STATE knows, or
    STATE is not mounted.
    """

    volume: str
    header_uuid: str
    slot: int
    made_at: str
    present: bool
    verified_at: str | None


def listed(volume: str, header: LuksHeader, directory: str | None) -> tuple[RecoverySlot, ...]:
    """Return the recovery keys of `header`, not verified; `directory` is where STATE is mounted, or None."""
    books = unverified(header)
    return tuple(
        RecoverySlot(
            volume,
            header.uuid,
            note.slot,
            timestamp(note.changed_at),
            header.keyslot(note.slot) is not None,
            verified_at(directory, volume, header, note.slot),
        )
        for note in (() if books is None else books.notes)
        if note.purpose is Purpose.RECOVERY
    )


def recovery_warnings(node: Node, volume: str, header: LuksHeader) -> tuple[str, ...]:
    """Return one sentence for each recovery key that nobody has verified yet, or whose slot is gone.

    Empty while STATE is not mounted, which is where it stands who was verified.
    """
    directory = state_directory(node)
    if directory is None:
        return ()
    found = []
    for entry in listed(volume, header, directory):
        if not entry.present:
            found.append(f"slot {entry.slot} (recovery) was removed by another tool (luksctl recovery remove)")
        elif entry.verified_at is None:
            found.append(f"slot {entry.slot} (recovery) was never verified (luksctl recovery verify {volume})")
    return tuple(found)
