"""What a medium may hold when the power goes at any moment of a recording.

Whatever was not synced may be there or not, in any order, and any write may be torn at a sector of 512 or 4096 bytes.

Of writes that only fill (1 MiB or so each, one behind the other in one file, no sync between them: how libcryptsetup
wipes before a format), those in the middle differ in nothing but how much is wiped, so the power goes after the first
two, the last two, and two of the others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from luksctl.units import KIB
from tests.faults.recording import Event, Kind
from tests.faults.tree import Tree, after

_ALL: Final = "all"
GRAINS: Final = (512, 4096)
_MOST_PENDING: Final = 3  # of more writes without a sync between them, so many are lost or torn one by one
_RANDOM_SUBSETS: Final = 2
_FILL_BYTES: Final = 512 * KIB  # and more, in one write
_FILL_ENDS: Final = 2
_FILL_MIDDLE: Final = 2


@dataclass(frozen=True)
class Piece:
    """Which bytes of the data of one write arrived."""

    number: int
    begin: int
    end: int


@dataclass(frozen=True)
class Cut:
    """The power goes after the first `boundary` records; these pieces of writes are on the medium, and these files."""

    boundary: int
    what: str
    pieces: tuple[Piece, ...]
    files: dict[str, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """What was done to the files of STATE's filesystem: `numbers` are the places of `events` among all records."""

    initial: Tree
    events: list[Event]
    numbers: list[int]

    def after(self, boundary: int) -> list[dict[str, bytes | None]]:
        """Return what may be left of them, first where all of it arrived."""
        before = sum(number < boundary for number in self.numbers)
        found: list[dict[str, bytes | None]] = []
        for tree in reversed(list(after(self.events, before, self.initial))):
            if tree.contents() not in found:
                found.append(tree.contents())
        return found


def cuts(events: list[Event], seed: str, files: Files | None = None) -> list[Cut]:
    """Return every cut to try: at each boundary, whole, without what was not synced, in subsets, reordered and torn.

    What may be left of `files`, whose records count as boundaries only, is tried with all that was written, and one of
    it with each other medium.
    """
    chance = random.Random(seed)  # noqa: S311  # which writes are lost is no secret
    found: list[Cut] = []
    seen = set()
    for boundary in boundaries(events, seed):
        left = [{}] if files is None else files.after(boundary)
        for what, pieces in _at(events, boundary, chance):
            for tree in left if what == _ALL else [chance.choice(left)]:
                key = pieces, tuple(sorted(tree.items()))
                if key not in seen:
                    seen.add(key)
                    found.append(Cut(boundary, what, pieces, tree))
    return found


def boundaries(events: list[Event], seed: str) -> list[int]:
    """Return after how many records the power goes: any number, but for the middle of a run that only fills."""
    chance = random.Random(seed)  # noqa: S311  # as in cuts
    left_out: set[int] = set()
    run: list[int] = []
    for number, event in enumerate([*events, None], start=1):
        if event is not None and _fills(event) and (not run or _goes_on(events[run[-1] - 1], event)):
            run.append(number)
            continue
        middle = run[_FILL_ENDS:-_FILL_ENDS]
        left_out |= set(middle) - set(chance.sample(middle, min(len(middle), _FILL_MIDDLE)))
        run = [number] if event is not None and _fills(event) else []
    return [number for number in range(len(events) + 1) if number not in left_out]


def _fills(event: Event) -> bool:
    return event.kind is Kind.WRITE and not event.synchronous and len(event.data) >= _FILL_BYTES


def _goes_on(before: Event, event: Event) -> bool:
    return event.name == before.name and event.offset == before.offset + len(before.data)


def _at(events: list[Event], boundary: int, chance: random.Random) -> Iterator[tuple[str, tuple[Piece, ...]]]:
    done = {n: Piece(n, 0, len(e.data)) for n, e in enumerate(events[:boundary]) if e.kind is Kind.WRITE}
    pending = [number for number in done if not _synced(events, number, boundary)]
    yield _ALL, _in_order(done)
    if not pending:
        return
    safe = {number: piece for number, piece in done.items() if number not in pending}
    yield "nothing that was not synced", _in_order(safe)
    chosen = pending if len(pending) <= _MOST_PENDING else sorted(chance.sample(pending, _MOST_PENDING))
    for number in chosen:
        yield "one write lost", _in_order({n: p for n, p in done.items() if n != number})
        yield "one write of those not synced", _in_order({**safe, number: done[number]})
        for piece in _torn(events[number], number, chance):
            yield "one write torn", _in_order({**done, number: piece})
            yield "one write torn, the others lost", _in_order({**safe, number: piece})
    for _ in range(_RANDOM_SUBSETS):
        arrived = set(chance.sample(pending, chance.randrange(len(pending) + 1)))
        yield "some writes lost", _in_order({n: p for n, p in done.items() if n in safe or n in arrived})


def _synced(events: list[Event], number: int, boundary: int) -> bool:
    written = events[number]
    later = events[number + 1 : boundary]
    return written.synchronous or any(e.kind is Kind.SYNC and e.name == written.name for e in later)


def _torn(event: Event, number: int, chance: random.Random) -> Iterator[Piece]:
    """Yield what is left of a write: its first sectors, or its last ones."""
    length = len(event.data)
    for grain in GRAINS:
        first = grain - event.offset % grain
        places = list(range(first, length, grain))
        if not places:
            continue
        for place in sorted({places[0], places[-1], chance.choice(places)}):
            yield Piece(number, 0, place)
            yield Piece(number, place, length)


def _in_order(pieces: Mapping[int, Piece]) -> tuple[Piece, ...]:
    return tuple(pieces[number] for number in sorted(pieces))


def image(initial: Mapping[str, bytes], events: list[Event], cut: Cut) -> dict[str, bytes]:
    """Return the files as the cut leaves them."""
    files = {name: bytearray(content) for name, content in initial.items()}
    for piece in cut.pieces:
        event = events[piece.number]
        content = files.setdefault(event.name, bytearray())
        at = event.offset + piece.begin
        content.extend(bytes(max(0, at + piece.end - piece.begin - len(content))))
        content[at : at + piece.end - piece.begin] = event.data[piece.begin : piece.end]
    return {name: bytes(content) for name, content in files.items()}
