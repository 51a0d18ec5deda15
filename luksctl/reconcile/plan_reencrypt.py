"""Decide how a volume gets a new volume key, and how one that was announced goes on. Pure.

Every key gets a second keyslot for the new volume key, in the form of the spare that an interrupted change leaves: the
bookkeeping for the new volume key says whose it is. So when the library has removed the old keyslots, any sync brings
the keys back to their numbers by the steps that it always takes.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable

from luksctl.errors import Refused
from luksctl.hints import Any, Final, assert_never
from luksctl.model.announced_step import (
    AddNewKeyslots,
    AnnounceReencryption,
    ConcludeDecryption,
    ConcludeReencryption,
    EndReencryption,
    ReencryptStep,
    RunReencryption,
    StartReencryption,
    TakeBackReencryption,
)
from luksctl.model.bookkeeping import Bookkeeping, Purpose, SlotNote, Underway, encode
from luksctl.model.config import MAX_SLOT, KeyKind, VolumeEncryption
from luksctl.model.header import LuksHeader
from luksctl.model.intent import MovedSlot, ReencryptIntent, ReencryptKind, SlotRole
from luksctl.model.json_budget import JsonBudget
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.model.probe import Device
from luksctl.units import KIB
from luksctl.value import frozen

# libcryptsetup holds a keyslot of its own meanwhile, and every key two: 2k + 1 of 32.
MAX_KEYS: Final = 15
_KINDS_WITH_TOKEN: Final = frozenset({KeyKind.KMS, KeyKind.TPM})
_BINARY_BYTES: Final = 4 * KIB
# Segments that only say what was and what will be, and the one that is neither yet.
_NO_DATA: Final = frozenset({"backup-previous", "backup-final", "in-reencryption"})
# What libcryptsetup adds for the whole time: its keyslot and digest, both backup segments, the requirement; and the
# segments while they are three. Measured with 2.6.1, and rounded up.
_UNDERWAY_JSON_BYTES: Final = 1800
_DIGEST_JSON_BYTES: Final = 300
_KEYSLOT_JSON_BYTES: Final = 400


@frozen
class HeldSlot:
    """One keyslot as the header and its verified bookkeeping have it; `kind` is that of a configured key."""

    slot: int
    role: SlotRole
    kind: KeyKind | None = None


def held_slots(header: LuksHeader, books: Bookkeeping, encryption: VolumeEncryption) -> tuple[HeldSlot, ...]:
    """Return what each keyslot is; Refused while a change of keys is not finished, which a sync ends first."""
    configured = {key.slot: key.kind for key in encryption.keys}
    found = []
    for slot in header.keyslots:
        note = books.note(slot.number)
        if books.announced(slot.number) or (note is not None and _dropped(note.purpose, slot.number, configured)):
            cause = "a change of its keys is not finished"
            raise Refused(cause, slot=slot.number, hint="luksctl sync")
        if note is not None and note.purpose is Purpose.RECOVERY:
            found.append(HeldSlot(slot.number, SlotRole.RECOVERY))
        elif slot.number in configured:
            found.append(HeldSlot(slot.number, SlotRole.CONFIG, configured[slot.number]))
        else:
            found.append(HeldSlot(slot.number, SlotRole.UNMANAGED))
    return tuple(found)


def _dropped(purpose: Purpose, slot: int, configured: Container[int]) -> bool:
    return purpose is Purpose.CONFIG and slot not in configured


def moves(header: LuksHeader, kept: tuple[HeldSlot, ...], encryption: VolumeEncryption) -> tuple[MovedSlot, ...]:
    """Return the second keyslot of each one in `kept`; Refused where there are not enough.

    The numbers are those that no configured key, keyslot or token has; recovery keys take the highest.
    """
    if len(kept) > MAX_KEYS or len(header.keyslots) + len(kept) + 1 > MAX_SLOT + 1:
        raise Refused(
            f"{len(header.keyslots)} keyslots are in use: each that is kept needs a second one meanwhile, and "
            f"libcryptsetup one more, of {MAX_SLOT + 1}, so at most {MAX_KEYS} can be kept",
            hint="give some of them up by name: --drop-slot N",
        )
    taken = {slot.number for slot in header.keyslots} | {key.slot for key in encryption.keys}
    # The bookkeeping's own too: Talos takes a token for that of the keyslot with its number.
    taken |= {token.number for token in header.tokens}
    free = [number for number in range(MAX_SLOT + 1) if number not in taken]
    if len(free) < len(kept) + 1:
        raise Refused("tokens hold the numbers that the new keyslots would need", hint="luksctl status")
    highest_first = iter(reversed(free))
    ordered = sorted(kept, key=lambda held: (held.role is not SlotRole.RECOVERY, held.slot))
    return tuple(MovedSlot(next(highest_first), held.slot, held.role) for held in ordered)


def second_token(header: LuksHeader, moved: tuple[MovedSlot, ...], encryption: VolumeEncryption) -> int:
    """Return the id of the bookkeeping token for the new volume key, beside the one that is there; Refused if none is.

    Talos takes a token for that of the keyslot with its number.
    """
    taken = {token.number for token in header.tokens} | {slot.number for slot in header.keyslots}
    taken |= {slot.new for slot in moved} | {key.slot for key in encryption.keys}
    found = next((number for number in range(MAX_SLOT, -1, -1) if number not in taken), None)
    if found is None:
        raise Refused("no token id is left for the bookkeeping of the new volume key", hint="luksctl status")
    return found


def new_books(books: Bookkeeping, moved: tuple[MovedSlot, ...], changed_at: int) -> Bookkeeping:
    """Return the bookkeeping for the new volume key: configured keys are in spares, recovery keys where they stay."""
    made = {note.slot: note.changed_at for note in books.notes}
    recovery = sorted((slot.new, slot.old) for slot in moved if slot.role is SlotRole.RECOVERY)
    notes = tuple(SlotNote(new, Purpose.RECOVERY, made.get(old, changed_at)) for new, old in recovery)
    underway = tuple(Underway(slot.new, slot.old) for slot in moved if slot.role is SlotRole.CONFIG)
    return Bookkeeping(books.counter + 1, notes, underway, books.due)


def budget(header: LuksHeader, moved: tuple[MovedSlot, ...], books: Bookkeeping) -> JsonBudget:
    """Return what the JSON area holds, and what is to go into it at the most while it is re-encrypted."""
    stays = len(json.dumps(json.loads(header.json), separators=(",", ":")))
    tokens = [header.token(slot.old) for slot in moved if slot.role is SlotRole.CONFIG]
    copied = sum(len(token.json) + len('"31":,') for token in tokens if token is not None)
    added = len(moved) * _KEYSLOT_JSON_BYTES + _DIGEST_JSON_BYTES + len(encode(books, "0" * 32)) + len('"31":,')
    return JsonBudget(header.header_size_bytes - _BINARY_BYTES, stays + copied + added + _UNDERWAY_JSON_BYTES)


def tokens_to_copy(header: LuksHeader, moved: tuple[MovedSlot, ...], encryption: VolumeEncryption) -> dict[int, str]:
    """Return what recovers the keys that have tokens, by the number of their second keyslot."""
    with_token = {key.slot for key in encryption.keys if key.kind in _KINDS_WITH_TOKEN}
    found = {}
    for slot in moved:
        token = header.token(slot.old)
        if slot.role is SlotRole.CONFIG and slot.old in with_token and token is not None:
            found[slot.new] = token.json
    return found


def steps_to_begin(device: Device, intent: ReencryptIntent, mapped_name: str | None) -> tuple[ReencryptStep, ...]:
    """Return the steps that announce it, prepare it and start it."""
    volume = intent.volume
    return (
        AnnounceReencryption(volume, intent),
        AddNewKeyslots(volume, device, intent),
        StartReencryption(volume, device, intent, mapped_name),
    )


def steps_to_go_on(found: Luks2) -> tuple[ReencryptStep | ConcludeDecryption, ...]:
    """Return what is next for what META announces; while it settles, a sync comes first.

    What did not start is taken back: whoever wants it has to begin again, since its keys are gone with the run.
    """
    intent, stage = found.reencryption, found.reencrypt_stage
    if intent is None or stage is None:
        return ()
    volume, device = intent.volume, found.device
    match stage:
        case _ if intent.kind is ReencryptKind.DECRYPT and all_plain(found.header):
            # As long as it is open, the kernel shows the data by what is in its memory; the next boot concludes it.
            return (ConcludeDecryption(volume, device),) if found.mapping is None else ()
        case ReencryptStage.PREPARING:
            slots = tuple(slot.new for slot in intent.moved if found.header.keyslot(slot.new) is not None)
            return (TakeBackReencryption(volume, device, intent, slots), ConcludeReencryption(volume, device))
        case ReencryptStage.RUNNING:
            if all_done(found.header):
                return (EndReencryption(volume, device, intent),)
            name = None if found.mapping is None else found.mapping.name
            return (RunReencryption(volume, device, intent, name),)
        case ReencryptStage.SETTLING:
            return (ConcludeReencryption(volume, device),) if settled(found.header, intent) else ()
    assert_never(stage)


def settled(header: LuksHeader, intent: ReencryptIntent) -> bool:
    """Tell whether every configured key has left its second keyslot."""
    return all(header.keyslot(slot.new) is None for slot in intent.moved if slot.role is SlotRole.CONFIG)


def all_plain(header: LuksHeader) -> bool:
    """Tell whether no data is encrypted any more, though the header may still say that it is being decrypted.

    The library destroys the keyslots before it takes its mark out of the header; cut there, it opens nothing.
    """
    data = [segment for segment in header.segments if not segment.flags]
    return [(segment.type, segment.offset_bytes) for segment in data] == [("linear", 0)]


def all_done(header: LuksHeader) -> bool:
    """Tell whether no data has the old volume key any more, though the header still says that it is re-encrypted."""
    try:
        document = json.loads(header.json)
        segments = document["segments"]
        data = {name for name, segment in segments.items() if not segment.get("flags")}
        before = {name for name, segment in segments.items() if "backup-previous" in segment.get("flags", ())}
        after = {name for name, segment in segments.items() if "backup-final" in segment.get("flags", ())}
        owned = [set(digest["segments"]) for digest in document["digests"].values()]
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    one_each = (len(segments), len(data), len(before), len(after)) == (3, 1, 1, 1)
    return one_each and any(data | after == names for names in owned)


def bytes_done(found: Luks2) -> tuple[int, int]:
    """Return how many bytes of data are as they are to be, by the header, and how many there are."""
    start = min((segment.offset_bytes for segment in found.header.segments), default=0)
    total = found.device.size_bytes - start
    if found.reencrypt_stage is ReencryptStage.SETTLING:
        return total, total
    if found.reencrypt_stage is not ReencryptStage.RUNNING or found.reencryption is None:
        return 0, total
    document = json.loads(found.header.json)
    segments, size_bytes = document["segments"], found.device.size_bytes
    if found.reencryption.kind is not ReencryptKind.RENEW:
        return _bytes_done_in_place(segments.values(), size_bytes, found.reencryption.kind)
    new = {str(slot.new) for slot in found.reencryption.moved}
    named = [digest["segments"] for digest in document["digests"].values() if new & set(digest["keyslots"])]
    owned = [segments[name] for name in named[0]] if named else []
    return _sum(owned, size_bytes), total


def _bytes_done_in_place(segments: Iterable[dict[str, Any]], size_bytes: int, kind: ReencryptKind) -> tuple[int, int]:
    """Return both for data that moves: what lies about on the device beside it counts for nothing."""
    data = [segment for segment in segments if segment.get("flags", []) in ([], ["in-reencryption"])]
    done = "crypt" if kind is ReencryptKind.ENCRYPT else "linear"
    total = sum(_size(segment, size_bytes) for segment in data)
    return _sum([segment for segment in data if segment["type"] == done], size_bytes), total


def _sum(segments: list[dict[str, Any]], size_bytes: int) -> int:
    return sum(_size(segment, size_bytes) for segment in segments if not set(segment.get("flags", ())) & _NO_DATA)


def _size(segment: dict[str, Any], size_bytes: int) -> int:
    return size_bytes - int(segment["offset"]) if segment["size"] == "dynamic" else int(segment["size"])


def steps_before_opening(found: Luks2) -> tuple[ReencryptStep, ...]:
    """Return what has to be done before the library can open it: end what is done and not ended."""
    if found.reencryption is None or not all_done(found.header):
        return ()
    return (EndReencryption(found.reencryption.volume, found.device, found.reencryption),)
