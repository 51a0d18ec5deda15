"""Decide how a volume that META announces to be erased is erased. Pure.

    key areas ─▶ header copies ─▶ what lies around them ─▶ the mapping closed ─▶ both ends ─▶ discarded (or overwritten)
    ─▶ tag 9 deleted (STATE) ─▶ Blank: the intent deleted

Whatever the volume is otherwise (locked, damaged, half formatted, half re-encrypted) changes nothing about it. While
somebody uses it, only its header is destroyed: what is mounted would write to the rest again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from luksctl.errors import AttemptsExhausted, MetaError, NeedsReboot
from luksctl.hints import Final
from luksctl.model.announced_step import AnnounceReset, ConcludeReset, Discard, EraseEnds, EraseHeader, Overwrite
from luksctl.model.config import STATE
from luksctl.model.header import SECONDARY_OFFSETS, Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import MAX_ATTEMPTS, EraseMethod, ResetIntent
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Erasing
from luksctl.model.probe import BLANK_HEAD_BYTES, Range, blank_ranges
from luksctl.model.step import CloseVolume, Step, WriteStateEncryption
from luksctl.units import MIB
from luksctl.value import replace

# Two headers of the largest size, and libcryptsetup's own limit of the keyslots area (LUKS2_MAX_KEYSLOTS_SIZE).
MAX_HEAD_BYTES: Final = 2 * SECONDARY_OFFSETS[-1] + 128 * MIB
_HINT: Final = "reboot: the boot finishes the reset before it opens anything"


def steps_of_reset(found: Erasing, meta: MetaFacts) -> tuple[Step, ...]:
    """Return the steps that are left of the reset; raises what stands in its way, NeedsReboot while it is in use."""
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        raise MetaError(f"the reset cannot go on: META is {meta.state}", hint="luksctl meta list")
    intent, device = found.intent, found.device
    header = found.copies.best
    keys: tuple[Step, ...] = ()
    forget: tuple[Step, ...] = ()
    kept = meta.kms_access is not None or meta.kms_access_problem is not None
    if intent.volume == STATE and (meta.has_tag9 or kept):
        # What META keeps for the time before STATE is open goes with STATE's keys there.
        forget = (WriteStateEncryption(STATE, None),)
    if found.holder is not None:
        limit_bytes = min(device.size_bytes, data_offset(found.copies))
        if found.mapping is not None and limit_bytes > 0:
            return (EraseHeader(intent.volume, device, erase_passes(found.copies, limit_bytes, around=True)), *forget)
        raise NeedsReboot(_in_use(found), hint=_HINT)
    attempt = _next_attempt(intent, found.copies)
    head_bytes = min(device.size_bytes, attempt.head_bytes)
    if header is not None:
        keys = (EraseHeader(intent.volume, device, erase_passes(found.copies, head_bytes, around=False)),)
    close = () if found.mapping is None else (CloseVolume(intent.volume, found.mapping.name),)
    ends = EraseEnds(intent.volume, device, ends_of(head_bytes, device.size_bytes))
    last: Step = Discard(intent.volume, device)
    if intent.method is EraseMethod.ZEROES:
        last = Overwrite(intent.volume, device, attempt)
    announce = AnnounceReset(intent.volume, attempt)
    return (announce, *keys, *close, ends, last, *forget, ConcludeReset(intent.volume, device))


def _in_use(found: Erasing) -> str:
    gone = "its header is destroyed, but " if found.mapping is not None and found.copies.best is None else ""
    return f"{gone}{found.device.path} is in use by {found.holder}"


def _next_attempt(intent: ResetIntent, copies: HeaderCopies) -> ResetIntent:
    if intent.attempt >= MAX_ATTEMPTS:
        because = f" ({intent.last_error})" if intent.last_error else ""
        raise AttemptsExhausted(
            f"its reset failed {intent.attempt} times{because}",
            hint=f"mend the cause, then: luksctl retry {intent.volume}",
        )
    return replace(intent, attempt=intent.attempt + 1, head_bytes=max(intent.head_bytes, head_of(copies)))


# ---- ranges ---------------------------------------------------------------------------------------------------------


def head_of(copies: HeaderCopies) -> int:
    """Return how many bytes from the start may hold a header or keys, at least those that Blank asks about.

    Where a magic is there and no copy is valid, that is as much as any LUKS2 header may have.
    """
    if copies.state is Copies.DAMAGED:
        return MAX_HEAD_BYTES
    ends = [BLANK_HEAD_BYTES]
    for header in _valid(copies):
        areas = [area.offset_bytes + area.size_bytes for area in key_areas(header)]
        ends += [2 * header.header_size_bytes + _keyslots_bytes(header), *areas]
    return min(max(ends), MAX_HEAD_BYTES)


def data_offset(copies: HeaderCopies) -> int:
    """Return where the first data of a valid copy begins: nothing from there on may change below an open mapping."""
    offsets = [segment.offset_bytes for header in _valid(copies) for segment in header.segments]
    return min(offsets, default=0)


def ends_of(head_bytes: int, size_bytes: int) -> tuple[Range, ...]:
    """Return what has to be zero at both ends of a device: what Blank asks about, and all of the head."""
    _, *tail = blank_ranges(0, size_bytes)
    head = Range(0, min(head_bytes, size_bytes))
    return (head, *(part for part in tail if part.offset_bytes + part.size_bytes > head.size_bytes))


def erase_passes(copies: HeaderCopies, limit_bytes: int, *, around: bool) -> tuple[tuple[Range, ...], ...]:
    """Return what is erased before what: key areas, then the copies, then, with `around`, all up to `limit_bytes`.

    As long as a copy is left it says where the key areas are, so they go first.
    """
    headers = _valid(copies)
    areas = sorted({(area.offset_bytes, area.size_bytes) for header in headers for area in key_areas(header)})
    size_bytes = max((header.header_size_bytes for header in headers), default=0)
    places = sorted({0, *(header.header_size_bytes for header in headers)})
    passes = (
        [Range(offset, size) for offset, size in areas],
        [Range(place, size_bytes) for place in places if size_bytes],
        [Range(0, limit_bytes)] if around else [],
    )
    return tuple(each for ranges in passes if (each := _within(ranges, limit_bytes)))


def _within(ranges: Iterable[Range], limit_bytes: int) -> tuple[Range, ...]:
    """Cut the ranges off at the limit; those behind it are left out."""
    return tuple(
        Range(part.offset_bytes, min(part.size_bytes, limit_bytes - part.offset_bytes))
        for part in ranges
        if part.offset_bytes < limit_bytes
    )


def key_areas(header: LuksHeader) -> tuple[Range, ...]:
    """Return where the keyslots of a header keep their keys; what makes no sense there is left out."""
    try:
        keyslots = json.loads(header.json)["keyslots"].values()
        areas = [Range(int(slot["area"]["offset"]), int(slot["area"]["size"])) for slot in keyslots]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ()
    return tuple(area for area in areas if area.offset_bytes >= 0 and area.size_bytes > 0)


def _keyslots_bytes(header: LuksHeader) -> int:
    try:
        return int(json.loads(header.json)["config"]["keyslots_size"])
    except (ValueError, LookupError, TypeError):
        return 0


def _valid(copies: HeaderCopies) -> tuple[LuksHeader, ...]:
    return tuple(copy.header for copy in (copies.first, copies.second) if copy is not None and copy.header is not None)
