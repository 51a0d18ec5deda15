"""The operations whose every write may be the last before the power goes, and what must be true at the next boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luksctl.model.config import VolumeEncryption
from luksctl.model.meta import MetaState
from luksctl.reconcile.converge import converge
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import CHANGES, NEW, OLD, boot
from tests.reconcile.stage import assert_in_sync

FIRST: Final = encrypted(static(0, OLD), node_id(4))


@dataclass(frozen=True)
class Operation:
    """`perform` is recorded on a node that was formatted with `before` (None: on a blank one).

    `next_boot` does what a boot does, and raises unless it ends as it must.
    """

    before: VolumeEncryption | None
    perform: Callable[[Node], None]
    next_boot: Callable[[Node], None]


def _format() -> Operation:
    def perform(node: Node) -> None:
        list(converge(cheap_wish(FIRST), node.volume_settings, node.ports))

    def next_boot(node: Node) -> None:
        node.reboot()
        perform(node)
        assert_in_sync(node, FIRST)
        if node.facts().record.intents:
            raise AssertionError("an intent is left")

    return Operation(None, perform, next_boot)


def _change(name: str) -> Operation:
    old, new = CHANGES[name]

    def perform(node: Node) -> None:
        list(boot(node, new))

    def next_boot(node: Node) -> None:
        list(boot(node, new))
        assert_in_sync(node, new)

    return Operation(old, perform, next_boot)


def _write_meta() -> Operation:
    old, new = encrypted(static(0, OLD), static(1, NEW)), encrypted(static(1, NEW))

    def perform(node: Node) -> None:
        node.ports.meta.write_state_encryption(new)

    def next_boot(node: Node) -> None:
        facts = node.facts()
        if facts.state is MetaState.UNREADABLE or facts.state_encryption not in (old, new):
            raise AssertionError(f"META is {facts.state} and names {facts.state_encryption}")
        list(boot(node, new))
        assert_in_sync(node, new)

    return Operation(old, perform, next_boot)


OPERATIONS: Final = {
    "first format": _format(),
    "add": _change("add"),
    "change in place": _change("change in place"),
    "remove": _change("remove"),
    "one-step replacement": _change("replace the only key"),
    "one-step replacement by another slot": _change("replace the only key by another slot"),
    "META write": _write_meta(),
}


def perform(directory: Path, name: str) -> None:
    """Perform the operation `name` on the node in `directory`."""
    OPERATIONS[name].perform(Node(directory))
