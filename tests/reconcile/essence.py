"""What two worlds must agree on to be the same to plan: simulated against in memory, simulated against real headers."""

from __future__ import annotations

from luksctl.model.header import LuksHeader
from luksctl.model.observed import Erasing, Luks2, Unfinished
from luksctl.model.simulate import World
from luksctl.reconcile.books import unverified


def essence(world: World) -> tuple[object, ...]:
    """Return what plan asks of a world: no sequence ids, MACs, times or names inside a filesystem."""
    observed, meta = world.observed, world.meta
    parts: list[object] = [type(observed), meta.state, meta.record, meta.state_encryption, meta.has_tag9]
    if isinstance(observed, Unfinished | Luks2):
        header, mapping = observed.header, observed.mapping
        parts += [None if mapping is None else (mapping.path, mapping.signature is not None)]
        if header is not None:
            parts += [header.uuid, header.subsystem, _keyslots(header), _bookkeeping(header)]
    if isinstance(observed, Erasing):
        parts += [observed.intent, observed.copies.state, observed.mapping is None, observed.holder]
    if isinstance(observed, Unfinished):
        parts.append(observed.intent)
    if isinstance(observed, Luks2):
        parts += [observed.copies.state, observed.format_intent]
    return tuple(parts)


def _keyslots(header: LuksHeader) -> tuple[object, ...]:
    """Return the keyslots with what their keys cost, by number."""
    return tuple(sorted((slot.number, slot.kdf, slot.time, slot.memory_kib, slot.threads) for slot in header.keyslots))


def _bookkeeping(header: LuksHeader) -> tuple[object, ...] | None:
    """Return where the bookkeeping is and what it says: which slots are ours, for what, and what is under way."""
    books = unverified(header)
    if books is None:
        return None
    numbers = tuple(token.number for token in header.tokens if token.type == "luksctl")
    return (numbers, books.counter, [(note.slot, note.purpose) for note in books.notes], books.underway)
