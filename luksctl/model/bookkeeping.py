"""What luksctl notes about a volume's keyslots in the volume's own header: one token of type `luksctl`.

    {"type": "luksctl", "keyslots": [], "version": 1, "counter": 7,
     "slots": {"0": {"for": "config", "at": 1795388861, "fp": "…", "tokenFp": "…"}},
     "underway": {"31": 0}, "due": {"0": "…"}, "mac": "…"}

`slots` are the keyslots that are ours: made by us, or found to match a configured key when the volume was adopted.
`underway` announces a keyslot before it is added, and which configured slot it serves: itself, or as a spare another.
`due`, where there is any, are slots that get new keys at the next boot, because this one is past making them; each with
the state of the machine for which that was asked.
`mac` covers everything else under the volume key, so only who can open the volume can write it. Read without the
volume key it is a hint at most: which slot to try next, what to show.
"""

from __future__ import annotations

import json
from collections.abc import Container
from enum import StrEnum

from luksctl.hints import Final
from luksctl.model.config import MAX_SLOT
from luksctl.model.sealing import Due
from luksctl.value import frozen, replace

TOKEN_TYPE: Final = "luksctl"  # noqa: S105  # a type, no secret
# With more configured keys there is no room for a spare and this token, so there is no bookkeeping either.
MAX_KEYS_WITH_BOOKKEEPING: Final = 30
_VERSION: Final = 1
# The end of the year 9999: later times cannot be written as a date.
_LAST_SECOND: Final = 253_402_300_799


class Purpose(StrEnum):
    """Why a keyslot is there."""

    CONFIG = "config"
    RECOVERY = "recovery"


@frozen
class SlotNote:
    """One keyslot that is ours, and when its key was last changed (seconds since 1970).

    `fingerprint` is a MAC over slot and key, `token_fingerprint` one over slot and token: hexadecimal, None where the
    policy keeps none, or the key has no token.
    """

    slot: int
    purpose: Purpose
    changed_at: int
    fingerprint: str | None = None
    token_fingerprint: str | None = None


@frozen
class Underway:
    """A key for the configured slot `serves` is being put into `slot`: the same one, or a spare."""

    slot: int
    serves: int


@frozen
class Bookkeeping:
    """The content of the token; the higher `counter` is the newer one, where a cut left two."""

    counter: int = 0
    notes: tuple[SlotNote, ...] = ()
    underway: tuple[Underway, ...] = ()
    due: tuple[Due, ...] = ()

    def note(self, slot: int) -> SlotNote | None:
        """Return the note of `slot`, or None if it is not ours."""
        return next((note for note in self.notes if note.slot == slot), None)

    def due_in(self, slot: int) -> Due | None:
        """Return the note that `slot` gets a new key at the next boot, or None."""
        return next((entry for entry in self.due if entry.slot == slot), None)

    def spares_of(self, serves: int) -> tuple[int, ...]:
        """Return the spares that hold, or were to hold, a key for the slot `serves`, the latest first."""
        return tuple(entry.slot for entry in reversed(self.underway) if entry.serves == serves != entry.slot)

    def announced(self, slot: int) -> bool:
        """Tell whether a key was being put into `slot`."""
        return any(entry.slot == slot for entry in self.underway)

    def knows(self, slot: int) -> bool:
        """Tell whether `slot` is ours: noted, or announced."""
        return self.note(slot) is not None or self.announced(slot)

    def with_underway(self, slot: int, serves: int) -> Bookkeeping:
        """Return it with one more announcement."""
        others = tuple(entry for entry in self.underway if entry.slot != slot)
        return replace(self, underway=(*others, Underway(slot, serves)))

    def with_note(self, note: SlotNote, present: Container[int] = ()) -> Bookkeeping:
        """Return it with `note`, and without the announcements for it, except of spares that are still `present`.

        A change that was announced made the slot's new key, so none is due any more.
        """
        others = tuple(other for other in self.notes if other.slot != note.slot)
        notes = tuple(sorted((*others, note), key=lambda each: each.slot))
        kept = tuple(e for e in self.underway if e.serves != note.slot or (e.slot in present and e.slot != note.slot))
        changed = any(entry.serves == note.slot for entry in self.underway)
        due = tuple(entry for entry in self.due if entry.slot != note.slot or not changed)
        return replace(self, notes=notes, underway=kept, due=due)

    def with_due(self, due: tuple[Due, ...]) -> Bookkeeping:
        """Return it with new keys `due`, in place of what was noted for the same slots."""
        slots = {entry.slot for entry in due}
        kept = (entry for entry in self.due if entry.slot not in slots)
        return replace(self, due=tuple(sorted((*kept, *due), key=lambda entry: entry.slot)))

    def disowned(self, slot: int) -> Bookkeeping:
        """Return it with `slot` announced instead of noted: one that nobody configured is removed by the next sync."""
        return self.without(slot).with_underway(slot, slot)

    def without(self, slot: int) -> Bookkeeping:
        """Return it without the note of `slot` and without announcements about it."""
        return replace(
            self,
            notes=tuple(note for note in self.notes if note.slot != slot),
            underway=tuple(entry for entry in self.underway if entry.slot != slot),
            due=tuple(entry for entry in self.due if entry.slot != slot),
        )


def encode(books: Bookkeeping, mac: str) -> str:
    """Return the token's JSON text."""
    return _compact({**_fields(books), "mac": mac})


def mac_input(books: Bookkeeping) -> bytes:
    """Return what the MAC covers: the canonical JSON of everything but the MAC."""
    return _compact(_fields(books)).encode()


def decode(text: str) -> tuple[Bookkeeping, str]:
    """Return the content of a token's JSON text and its MAC, not checked here; ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("type") != TOKEN_TYPE or found.get("version") != _VERSION:
        raise ValueError("not a bookkeeping token of this version")
    books = Bookkeeping(
        counter=_number(found.get("counter"), 1 << 62),
        notes=tuple(_note(_slot(name), entry) for name, entry in _object(found.get("slots")).items()),
        underway=tuple(
            Underway(_slot(name), _number(serves, MAX_SLOT))
            for name, serves in _object(found.get("underway", {})).items()
        ),
    )
    due = tuple(
        Due(_slot(name), None if policy is None else _text(policy))
        for name, policy in _object(found.get("due", {})).items()
    )
    return books.with_due(due), _text(found.get("mac"))


def _fields(books: Bookkeeping) -> dict[str, object]:
    # Left out where it is empty: the MAC of a header that never had any is over what stands there.
    due = {"due": {str(entry.slot): entry.policy for entry in books.due}} if books.due else {}
    return {
        "type": TOKEN_TYPE,
        "keyslots": [],
        "version": _VERSION,
        "counter": books.counter,
        "slots": {str(note.slot): _note_fields(note) for note in books.notes},
        "underway": {str(entry.slot): entry.serves for entry in books.underway},
        **due,
    }


def _note_fields(note: SlotNote) -> dict[str, object]:
    fields: dict[str, object] = {"for": note.purpose.value, "at": note.changed_at}
    if note.fingerprint is not None:
        fields["fp"] = note.fingerprint
    if note.token_fingerprint is not None:
        fields["tokenFp"] = note.token_fingerprint
    return fields


def _note(slot: int, value: object) -> SlotNote:
    fields = _object(value)
    return SlotNote(
        slot,
        Purpose(_text(fields.get("for"))),
        _number(fields.get("at"), _LAST_SECOND),
        None if "fp" not in fields else _text(fields["fp"]),
        None if "tokenFp" not in fields else _text(fields["tokenFp"]),
    )


def _compact(fields: dict[str, object]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("an object was expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text was expected")
    return value


def _number(value: object, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise ValueError("a number was expected")
    return value


def _slot(name: str) -> int:
    if not (name.isascii() and name.isdecimal()) or len(name) > 2:
        raise ValueError("a keyslot number was expected")
    return _number(int(name), MAX_SLOT)
