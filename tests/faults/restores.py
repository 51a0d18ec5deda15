"""A saved header is put back: at every moment the one before or the saved one is there, with all of its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from luksctl.errors import LuksctlError
from luksctl.model.config import STATE, VolumeEncryption
from luksctl.model.header import Copies
from luksctl.node import header_restore
from luksctl.node.header_backup import find_device, save_header
from luksctl.units import KIB
from tests.faults.running import Running
from tests.reconcile.images import Node
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import LAST, NEW, OLD, OTHER, boot
from tests.reconcile.stage import Stage, assert_in_sync, boot_to_sync, keys_that_open, secret_of

# Slot 0 has another key, slot 2 is gone, and slot 3 has come.
SAVED: Final = encrypted(static(0, OLD), static(1, OTHER), static(2, LAST))
PRESENT: Final = encrypted(static(0, NEW), static(1, OTHER), node_id(3))
_BACKUP: Final = "backup"
_HEADER_BYTES: Final = 16 * KIB


def changed(directory: Path) -> None:
    """Make a node whose keys were changed after its header was saved."""
    node = Stage(directory).node(SAVED)
    (directory / _BACKUP).write_bytes(save_header(Running(directory).node, STATE).content)
    boot_to_sync(node, PRESENT)


def lost(directory: Path) -> None:
    """Damage both copies of that node, too."""
    changed(directory)
    with (directory / "state.img").open("r+b") as target:
        for offset in (0, _HEADER_BYTES):
            target.seek(offset)
            target.write(b"\xff" * 8192)


def restore(directory: Path) -> None:
    """Put the saved header back, with what speaks against it allowed."""
    content = (directory / _BACKUP).read_bytes()
    node = Running(directory).node
    allowed = header_restore.Allowed(older=True)
    header_restore.restore(node, header_restore.look_at(node, STATE, content, allowed), content, allowed)


def next_boot(directory: Path) -> None:
    """Boot by a config that names the keys from before; raises unless one header was whole, and it ends in sync.

    It is one of the two that fits only in one slot: whatever was restored of what was rotated out goes again.
    """
    node = Node(directory)
    _expect_whole(node, PRESENT, SAVED)
    boot_to_sync(node, PRESENT)
    _expect_whole(node, PRESENT)
    if keys_that_open(node, OLD, LAST):
        raise AssertionError("a key that was rotated out opens")


def next_boot_of_lost(directory: Path) -> None:
    """Boot where nothing was there before: what does not open yet is left as it is, and is restored again."""
    node = Node(directory)
    if node.ports.disks.header_copies(find_device(Running(directory).node, STATE)).state in (
        Copies.NONE,
        Copies.DAMAGED,
    ):
        before = node.bytes_on_disk()
        try:
            list(boot(node, PRESENT))
        except LuksctlError:
            pass
        else:
            raise AssertionError("it opened without a header")
        if node.bytes_on_disk() != before:
            raise AssertionError("something was written to a header that nobody can read")
        restore(directory)
    _expect_whole(node, SAVED)
    list(boot(node, SAVED))
    assert_in_sync(node, SAVED)


def _expect_whole(node: Node, *allowed: VolumeEncryption) -> None:
    """Raise unless the keyslots are those of one of the lists, and each key of it opens its own."""
    texts = {secret_of(node, key) for keys in (SAVED, PRESENT) for key in keys.keys}
    found = keys_that_open(node, *texts)
    if found not in [{secret_of(node, key): {key.slot} for key in keys.keys} for keys in allowed]:
        raise AssertionError(f"slots are opened by {found}")


def expect_saved(directory: Path) -> None:
    """Raise unless the saved header is there, whole."""
    _expect_whole(Node(directory), SAVED)
