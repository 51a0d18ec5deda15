"""Record an operation, and boot from what each cut of it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.faults.operations import OPERATIONS
from tests.faults.recording import Event, Kind, record
from tests.faults.replay import Cut, cuts, image
from tests.reconcile.images import Node
from tests.reconcile.stage import Stage

MEDIA: Final = ("state.img", "meta.img")
# What stands for the filesystem above the mapping: made by a step of its own, and synced when that is done.
INSIDE: Final = "inside"
_CHUNK_BYTES: Final = 1 << 16


class Trial:
    """One operation, recorded in `directory`, which is part of what META records."""

    def __init__(self, recorder: Path, directory: Path, name: str, seed: str) -> None:
        self.name = name
        self._directory = directory
        before = OPERATIONS[name].before
        if before is None:
            Node(directory)
        else:
            Stage(directory).node(before)
        self._initial = {path.name: path.read_bytes() for path in directory.iterdir() if path.name in (*MEDIA, INSIDE)}
        self.events = [_synced(event) for event in record(recorder, directory, name) if event.name in (*MEDIA, INSIDE)]
        self.cuts = cuts(self.events, seed)

    def boot_after(self, cut: Cut) -> None:
        """Put the media as `cut` leaves them, and boot; raises unless that ends as it must."""
        settle(self._directory, image(self._initial, self.events, cut))
        try:
            OPERATIONS[self.name].next_boot(Node(self._directory))
        except Exception as error:
            error.add_note(f"{self.name}: cut after record {cut.boundary} of {len(self.events)}, {cut.what}")
            raise


def _synced(event: Event) -> Event:
    if event.name == INSIDE and event.kind is Kind.WRITE:
        return Event(event.kind, event.name, event.offset, event.data, synchronous=True)
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
