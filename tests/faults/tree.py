"""What a directory of STATE's filesystem may hold when the power goes at any moment of a recording.

Names change in the order in which they were changed, as journalling filesystems keep it, but perhaps not all of them;
what was written to a file and not synced may be there, or not, or only its first half.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.recording import Event, Kind

NAMESPACE: Final = (Kind.CREATE, Kind.MKDIR, Kind.RENAME, Kind.UNLINK)
_FIRST_NEW_INODE: Final = 1000


@dataclass
class Tree:
    """Names, and what is in the files they stand for (None: a directory)."""

    names: dict[str, int | None] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)

    def apply(self, event: Event, inode: int) -> None:
        """Change names as `event` does; a new file is `inode`."""
        match event.kind:
            case Kind.CREATE:
                self.names[event.name] = inode
            case Kind.MKDIR:
                self.names[event.name] = None
            case Kind.RENAME:
                self.names[event.data.decode()] = self.names.pop(event.name)
            case _:
                self.names.pop(event.name)

    def contents(self) -> dict[str, bytes | None]:
        """Return what a reader finds under each name (None: a directory)."""
        return {name: None if inode is None else self.files.get(inode, b"") for name, inode in self.names.items()}


def read_tree(directory: Path) -> Tree:
    """Return what is in `directory` now."""
    found = Tree()
    for number, path in enumerate(sorted(directory.rglob("*")), start=1):
        name = str(path.relative_to(directory))
        found.names[name] = None if path.is_dir() else number
        if path.is_file():
            found.files[number] = path.read_bytes()
    return found


def after(events: list[Event], boundary: int, initial: Tree) -> Iterator[Tree]:
    """Yield the trees that a cut after `boundary` events may leave; the last one but two has all that was done."""
    whole = Tree(dict(initial.names), dict(initial.files))
    writes: dict[int, list[tuple[int, bytes]]] = {}
    pending: list[tuple[Event, int]] = []
    for number, event in enumerate(events[:boundary]):
        if event.kind in NAMESPACE:
            pending.append((event, _FIRST_NEW_INODE + number))
            whole.apply(event, _FIRST_NEW_INODE + number)
            continue
        inode = whole.names.get(event.name)
        if event.kind is Kind.SYNC and inode is None:
            pending = [entry for entry in pending if os.path.dirname(entry[0].name) != event.name]
        elif event.kind is Kind.SYNC and inode is not None:
            writes.pop(inode, None)
        elif inode is not None:
            before = whole.files.get(inode, b"")
            whole.files[inode] = before[: event.offset] + event.data
            writes.setdefault(inode, []).append((event.offset, event.data))
    for kept, arrived in itertools.product(range(len(pending) + 1), ("all", "half", "none")):
        tree = Tree(_names(events[:boundary], pending[kept:], initial), dict(whole.files))
        for inode in writes:
            size = {"all": len(whole.files[inode]), "half": len(whole.files[inode]) // 2, "none": 0}[arrived]
            tree.files[inode] = whole.files[inode][:size]
        yield tree


def _names(events: list[Event], lost: list[tuple[Event, int]], initial: Tree) -> dict[str, int | None]:
    tree = Tree(dict(initial.names))
    gone = {id(event) for event, _ in lost}
    for number, event in enumerate(events):
        if event.kind in NAMESPACE and id(event) not in gone:
            tree.apply(event, _FIRST_NEW_INODE + number)
    return tree.names


def lay_out(contents: dict[str, bytes | None], directory: Path) -> None:
    """Make `directory` hold just this."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, content in sorted(contents.items()):
        path = directory / name
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
