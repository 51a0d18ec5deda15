"""A plain volume is encrypted in place: at each moment all its data is there, and the next boot goes on by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from luksctl.model.observed import Encrypting, FilesystemFound
from luksctl.reconcile.converge import session
from luksctl.units import KIB, MIB
from tests.reconcile.images import Node
from tests.reconcile.plain import assert_holds, in_place_wish, plain_ext4, run_to_its_end
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import OLD

KEYS: Final = encrypted(static(0, OLD), node_id(4))
# What the volume was, for later: the recorder looks only at the volume and at META.
_BEFORE: Final = "before"
_FILESYSTEM_BYTES: Final = 4 * MIB
_SIZE_BYTES: Final = 32 * MIB + _FILESYSTEM_BYTES + 64 * KIB


def plain(directory: Path) -> None:
    """Make a node whose STATE is plain, and keep what is on it."""
    node = plain_ext4(directory, filesystem_bytes=_FILESYSTEM_BYTES, size_bytes=_SIZE_BYTES, full=0.5)
    (directory / _BEFORE).write_bytes(node.state.read_bytes()[:_FILESYSTEM_BYTES])


def begin(directory: Path) -> None:
    """Encrypt in place, up to where re-encryption takes over."""
    node = Node(directory)
    with session(in_place_wish(KEYS), node.volume_settings, node.ports) as running:
        list(running.work_in_place())


def next_boot(directory: Path) -> None:
    """Go on from whatever is found; the volume is never taken for a plain one once its head is overwritten."""
    node = Node(directory)
    before = (directory / _BEFORE).read_bytes()
    if isinstance(node.observe(), FilesystemFound) and node.state.read_bytes()[: len(before)] != before:
        raise AssertionError("a plain filesystem is seen that is not the one that was there")
    begin(directory)
    if isinstance(node.observe(), Encrypting):
        raise AssertionError("no header is placed")
    run_to_its_end(node, in_place_wish(KEYS))
    assert_holds(node, OLD, before)
