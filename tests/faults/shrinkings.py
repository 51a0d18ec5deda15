"""An ext4 that reaches to the end of its device is shrunk: at each moment all its files are there after the next boot.

What resize2fs really does to it: blocks and inodes of the groups that go are moved, so that directories change as well.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

from luksctl.model.announced_step import MakeRoom
from luksctl.model.in_place import ROOM_BYTES
from luksctl.model.intent import InPlaceIntent, InPlacePhase
from luksctl.reconcile.converge import session
from luksctl.units import MIB
from tests.faults.running import MOUNTED
from tests.reconcile.images import Node
from tests.reconcile.plain import debugfs, e2fsck, files_of, in_place_wish, run_program
from tests.reconcile.providers import encrypted, static
from tests.reconcile.rotations import OLD

_SIZE_BYTES: Final = 56 * MIB
# Eight groups of which four go, each with 24 inodes; what is made first keeps the others out of the groups that stay.
_OPTIONS: Final = ("-b", "1024", "-m", "0", "-J", "size=1", "-N", "168", "-O", "^flex_bg,^resize_inode")
_FILLER_BYTES: Final = 26 * MIB
_DIRECTORIES: Final = 66
_FILES: Final = 18
# What the files were, for later: the recorder looks only at the volume, at META, and at what is in STATE.
_BEFORE: Final = "before"


def full(directory: Path) -> None:
    """Make a node with such a filesystem, and keep what is on it."""
    (directory / MOUNTED).mkdir()
    state, made = directory / "state.img", random.Random(0)  # noqa: S311  # the same files each time
    with state.open("xb") as target:
        target.truncate(_SIZE_BYTES)
    run_program(["mkfs.ext4", "-q", *_OPTIONS, str(state)])
    Node(directory)
    place = directory / "files"
    place.mkdir()
    requests = [f"mkdir /early-{number}" for number in range(_DIRECTORIES)]
    (place / "filler").write_bytes(bytes(1) * _FILLER_BYTES)
    requests += [f"write {place}/filler /filler", *(f"mkdir /dir-{number}" for number in range(3))]
    for number in range(_FILES):
        size_bytes = made.randrange(10_000, 30_000) if number % 10 == 0 else made.randrange(100, 2500)
        (place / f"{number}").write_bytes(made.randbytes(size_bytes))
        requests.append(f"write {place}/{number} /dir-{number % 3}/file-{number}")
    requests.append(f"symlink /dir-0/link {'x' * 100}")
    requests += [f"rm /dir-{number % 3}/file-{number}" for number in range(0, _FILES, 5)]
    requests += ["rm /filler", *(f"rmdir /early-{number}" for number in range(_DIRECTORIES))]
    debugfs(state, *requests, write=True)
    e2fsck(state)
    (directory / _BEFORE).write_text(json.dumps(files_of(state)), encoding="ascii")


def shrink(directory: Path) -> None:
    """Encrypt in place, up to where there is room for a header."""
    node = Node(directory)
    wish = in_place_wish(encrypted(static(0, OLD)), directory / MOUNTED)
    with session(wish, node.volume_settings, node.ports) as running:
        for done in running.work_in_place():
            if isinstance(done.step, MakeRoom):
                return


def next_boot(directory: Path) -> None:
    """Go on from whatever is found: then it is shrunk, sound, with the same files, and nothing saved is left."""
    shrink(directory)
    node = Node(directory)
    (intent,) = node.facts().record.intents
    if not isinstance(intent, InPlaceIntent) or intent.phase is not InPlacePhase.PREPARING:
        raise AssertionError(f"META announces {intent}")
    e2fsck(node.state)
    device = node.observe().device  # type: ignore[union-attr]
    if node.ports.in_place().extent(device).size_bytes > _SIZE_BYTES - ROOM_BYTES:
        raise AssertionError("there is no room for a header")
    if files_of(node.state) != json.loads((directory / _BEFORE).read_text(encoding="ascii")):
        raise AssertionError("the files are not what they were")
    left = [path.name for path in (directory / MOUNTED).iterdir()]
    if left:
        raise AssertionError(f"left in STATE: {left}")
