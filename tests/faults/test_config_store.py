"""The power goes at any write, sync or rename while STATE gets a new config: the old one or the new one is there.

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

import pytest

from luksctl.config.documents import parse_machine_config
from luksctl.node.sources import forget_previous, previous_configs, previous_names, store_config, stored_config
from tests.faults.operations import CONFIGS
from tests.faults.recording import Event, Kind, build_recorder, record

OLD, NEW = CONFIGS
NAMESPACE = (Kind.CREATE, Kind.MKDIR, Kind.RENAME, Kind.UNLINK)


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


def after(events: list[Event], boundary: int, initial: Tree) -> Iterator[Tree]:
    """Yield the trees that a cut after `boundary` events may leave."""
    whole = Tree(dict(initial.names), dict(initial.files))
    writes: dict[int, list[tuple[int, bytes]]] = {}
    pending: list[tuple[Event, int]] = []
    for number, event in enumerate(events[:boundary]):
        if event.kind in NAMESPACE:
            pending.append((event, 1000 + number))
            whole.apply(event, 1000 + number)
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
            tree.apply(event, 1000 + number)
    return tree.names


def lay_out(tree: Tree, directory: Path) -> None:
    """Make the tree in `directory`."""
    shutil.rmtree(directory)
    directory.mkdir()
    for name, inode in sorted(tree.names.items()):
        path = directory / name
        if inode is None:
            path.mkdir(exist_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(tree.files.get(inode, b""))


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled recorder."""
    return build_recorder(tmp_path_factory.mktemp("recorder"))


def test_a_cut_leaves_the_old_config_or_the_new_one_with_the_old_one_kept(recorder: Path, tmp_path: Path) -> None:
    """Whole and valid each time; where the new one rules, the keys of the old one are there to fall back to."""
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "config.yaml").write_bytes(OLD)
    events = record(recorder, directory, "config store")
    assert [event.kind for event in events].count(Kind.RENAME) == 2
    initial = Tree({"config.yaml": 1}, {1: OLD})
    seen = set()
    for boundary in range(len(events) + 1):
        for tree in after(events, boundary, initial):
            lay_out(tree, directory)
            stored = stored_config(str(directory))
            assert stored is not None, boundary
            assert stored.text in (OLD, NEW), boundary
            seen.add(stored.text)
            if stored.text == NEW:
                assert [config.text for config in previous_configs(str(directory))] == [OLD], boundary
            if boundary == len(events):
                assert stored.text == NEW
            store_config(str(directory), parse_machine_config(NEW, "again"))
            forget_previous(str(directory), previous_names(str(directory)))
            after_all = stored_config(str(directory))
            assert after_all is not None
            assert after_all.text == NEW
    assert seen == {OLD, NEW}
