"""Key lists that a volume goes through, and how a boot follows each: shared by what kills, tears and compares them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from luksctl.model.config import VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.step import Done
from luksctl.reconcile.converge import converge
from luksctl.value import replace
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static

OLD: Final = b"rotated out, and must open nothing"
NEW: Final = b"rotated in"
OTHER: Final = b"another key"
LAST: Final = b"the last key of five"

EIGHT: Final = tuple(static(slot, b"key %d" % slot) for slot in range(7))

ROTATIONS: Final[dict[str, tuple[VolumeEncryption, ...]]] = {
    "add": (encrypted(static(0, OLD)), encrypted(static(0, OLD), static(1, NEW))),
    "change in place": (encrypted(static(0, OLD), static(1, OTHER)), encrypted(static(0, NEW), static(1, OTHER))),
    "remove": (encrypted(static(0, OLD), static(1, NEW)), encrypted(static(1, NEW))),
    "replace the only key": (encrypted(static(0, OLD)), encrypted(static(0, NEW))),
    "replace the only key by another slot": (encrypted(static(0, OLD)), encrypted(static(3, NEW))),
    "swap": (encrypted(static(0, NEW), static(1, OTHER)), encrypted(static(0, OTHER), static(1, NEW))),
    "one to eight": (encrypted(EIGHT[0]), encrypted(*EIGHT, node_id(7))),
    "eight to one": (encrypted(*EIGHT, node_id(7)), encrypted(node_id(7))),
    "mixed kinds": (encrypted(node_id(0), static(4, OLD)), encrypted(static(0, NEW), node_id(4))),
    "the highest slots": (
        encrypted(static(30, OLD), static(31, OTHER)),
        encrypted(static(30, NEW), static(31, LAST)),
    ),
    "rotation of five": (
        encrypted(static(0, OLD)),
        encrypted(static(0, OLD), static(1, OTHER)),
        encrypted(static(1, OTHER)),
        encrypted(static(0, NEW), static(1, OTHER)),
        encrypted(static(1, NEW)),
    ),
}


def changes() -> Iterator[tuple[str, VolumeEncryption, VolumeEncryption]]:
    """Yield every single change of ROTATIONS, with a name."""
    for name, lists in ROTATIONS.items():
        for number, (old, new) in enumerate(pairwise(lists), start=1):
            yield (name if len(lists) == 2 else f"{name}, {number}"), old, new


CHANGES: Final = {name: (old, new) for name, old, new in changes()}


def following(new: VolumeEncryption, *old: VolumeEncryption) -> DesiredVolume:
    """Return the wish that STATE's own config makes of it; `old` are the lists it had before."""
    return replace(cheap_wish(new), sync=True, follow_in_meta=True, fallback=old)


def boot(node: Node, new: VolumeEncryption) -> Iterator[Done]:
    """Boot as a node does: STATE opens by META's list, then follows its own config; META's list is to fall back to."""
    node.reboot()
    in_meta = node.facts().state_encryption
    if in_meta is None:
        raise AssertionError("META names no keys of STATE")
    yield from converge(cheap_wish(in_meta), node.volume_settings, node.ports)
    earlier = () if in_meta == new else (in_meta,)
    yield from converge(following(new, *earlier), node.volume_settings, node.ports)
