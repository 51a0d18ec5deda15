"""Recovery keys that are added, removed and replaced: afterwards each one opens and is listed, or opens nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from luksctl.reconcile.books import unverified
from luksctl.reconcile.recovery import RecoverySession, recovery_session, recovery_slots
from luksctl.secret import Secret
from tests.reconcile.images import Node
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import OTHER, boot, following
from tests.reconcile.stage import Stage, header_of, keys_that_open

KEYS: Final = encrypted(static(0, OTHER), node_id(4))
ONE, TWO = b"what stands on the first sheet", b"what stands on the second sheet"


def without(directory: Path) -> None:
    """Make a node without a recovery key."""
    Stage(directory).node(KEYS)


def with_one(directory: Path) -> None:
    """Make a node whose STATE the first sheet opens."""
    without(directory)
    add(directory)


def add(directory: Path) -> None:
    """Add the first key."""
    node = Node(directory)
    with recovery_session(following(KEYS), node.volume_settings, node.ports) as running:
        list(running.unlock())
        _put(running, ONE)


def remove(directory: Path) -> None:
    """Remove the one there is."""
    node = Node(directory)
    with recovery_session(following(KEYS), node.volume_settings, node.ports) as running:
        list(running.unlock())
        (slot,) = recovery_slots(header_of(node))
        list(running.remove(slot))


def change(directory: Path) -> None:
    """Add the second key, then remove the first one, as `keys rotate` does."""
    node = Node(directory)
    with recovery_session(following(KEYS), node.volume_settings, node.ports) as running:
        list(running.unlock())
        (slot,) = recovery_slots(header_of(node))
        _put(running, TWO)
        list(running.remove(slot))


def next_boot(directory: Path) -> None:
    """Boot; raises unless what opens is what is listed, nothing is announced, and the configured keys open."""
    node = Node(directory)
    list(boot(node, KEYS))
    header = header_of(node)
    books = unverified(header)
    if books is None or books.underway:
        raise AssertionError(f"the bookkeeping is {books}")
    listed = set(recovery_slots(header))
    if {slot.number for slot in header.keyslots} != {0, 4} | listed:
        raise AssertionError(f"keyslots are {header.keyslots}, and {listed} are listed for recovery")
    opened = keys_that_open(node, ONE, TWO)
    if set().union(*opened.values()) != listed or keys_that_open(node, OTHER) != {OTHER: {0}}:
        raise AssertionError(f"{opened} open, and {listed} are listed for recovery")
    before = node.bytes_on_disk()
    list(boot(node, KEYS))
    if node.bytes_on_disk() != before:
        raise AssertionError("a boot in sync wrote something")


def next_boot_with_one(directory: Path) -> None:
    """Boot as `next_boot`; raises unless one of the keys opens."""
    next_boot(directory)
    if not keys_that_open(Node(directory), ONE, TWO):
        raise AssertionError("neither recovery key opens")


def _put(running: RecoverySession, text: bytes) -> None:
    with Secret.take(text) as key:
        list(running.add(running.free_slot(), key))
