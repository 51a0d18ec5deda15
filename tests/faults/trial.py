"""Record an operation, and boot from what each cut of it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.faults.in_place import DETACHED
from tests.faults.operations import OPERATIONS
from tests.faults.recording import Event, Kind, record
from tests.faults.replay import Cut, Files, boundaries, cuts, image
from tests.faults.running import MOUNTED
from tests.faults.tree import lay_out, read_tree

MEDIA: Final = ("state.img", "meta.img", DETACHED)
# What stands for the filesystem above the mapping: made by a step of its own, and synced when that is done.
INSIDE: Final = "inside"
_CHUNK_BYTES: Final = 1 << 16
_SECTOR_BYTES: Final = 4096
# A record of something else on the medium's way: a boundary without bytes.
_ELSEWHERE: Final = Event(Kind.MKDIR, MOUNTED)


class Trial:
    """One operation, recorded in `directory`, which is part of what META records."""

    def __init__(self, recorder: Path, directory: Path, name: str, seed: str) -> None:
        self.name = name
        self._directory = directory
        OPERATIONS[name].prepare(directory)
        self._initial = {path.name: path.read_bytes() for path in directory.iterdir() if path.name in (*MEDIA, INSIDE)}
        initial = read_tree(directory / MOUNTED)
        self.events = [_synced(event) for event in record(recorder, directory, name) if _lasts(event)]
        # Keys that the boot after one cut made were never on the medium that another cut left.
        self._beside = {path: path.read_bytes() for path in directory.iterdir() if _beside(path)}
        numbers = [number for number, event in enumerate(self.events) if _in_files(event)]
        files = Files(initial, [_below(self.events[number]) for number in numbers], numbers)
        media = [_ELSEWHERE if _in_files(event) else event for event in self.events]
        self.boundaries = len(boundaries(media, seed))
        found = cuts(media, seed, files if (directory / MOUNTED).exists() else None)
        whole = not OPERATIONS[name].tears_sectors
        self.cuts = [cut for cut in found if not (whole and self._tears_a_sector(cut))]

    def _tears_a_sector(self, cut: Cut) -> bool:
        ends = ((self.events[piece.number], place) for piece in cut.pieces for place in (piece.begin, piece.end))
        return any(place % _SECTOR_BYTES and place != len(event.data) for event, place in ends)

    def boot_after(self, cut: Cut) -> None:
        """Put the media as `cut` leaves them, and boot; raises unless that ends as it must."""
        settle(self._directory, image(self._initial, self.events, cut))
        for path, content in self._beside.items():
            path.write_bytes(content)
        if (self._directory / MOUNTED).exists():
            lay_out(cut.files, self._directory / MOUNTED)
        try:
            OPERATIONS[self.name].next_boot(self._directory)
        except Exception as error:
            error.add_note(f"{self.name}: cut after record {cut.boundary} of {len(self.events)}, {cut.what}")
            raise


def _beside(path: Path) -> bool:
    """Tell whether `path` is a file that an operation keeps for itself, beside the media."""
    return path.is_file() and path.name not in (*MEDIA, INSIDE) and path.suffix != ".lock"


def _lasts(event: Event) -> bool:
    return event.name in (*MEDIA, INSIDE) or _in_files(event)


def _in_files(event: Event) -> bool:
    return event.name.split("/")[0] == MOUNTED


def _below(event: Event) -> Event:
    """Return a record of a file in STATE by its name there."""
    name, data = event.name.removeprefix(MOUNTED).strip("/"), event.data
    if event.kind is Kind.RENAME:
        data = data.removeprefix(f"{MOUNTED}/".encode())
    return replace(event, name=name, data=data)


def _synced(event: Event) -> Event:
    if event.name == INSIDE and event.kind is Kind.WRITE:
        return replace(event, synchronous=True)
    return event


def settle(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make the files in `directory` what they are in `files`; only what differs is written, since it will be synced."""
    (directory / INSIDE).unlink(missing_ok=True)
    for name, content in files.items():
        path = directory / name
        path.touch()
        with path.open("r+b") as target:
            target.truncate(len(content))
            for at in range(0, len(content), _CHUNK_BYTES):
                wanted = content[at : at + _CHUNK_BYTES]
                target.seek(at)
                if target.read(len(wanted)) != wanted:
                    target.seek(at)
                    target.write(wanted)
