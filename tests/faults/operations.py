"""The operations whose every write may be the last before the power goes, and what must be true at the next boot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luksctl.config.documents import parse_machine_config
from luksctl.model.config import VolumeEncryption
from luksctl.model.meta import MetaState
from luksctl.node.sources import store_config
from luksctl.reconcile.converge import converge
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import CHANGES, NEW, OLD, boot
from tests.reconcile.stage import assert_in_sync

CONFIGS: Final = tuple(
    b"apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nencryption:\n  provider: luks2\n  keys:\n"
    b"    - {slot: 0, static: {passphrase: %s}}\n" % passphrase
    for passphrase in (b"the old one", b"a new one that is longer than the old one")
)
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


# The longest last.
OPERATIONS: Final = {
    "META write": _write_meta(),
    "remove": _change("remove"),
    "add": _change("add"),
    "change in place": _change("change in place"),
    "one-step replacement": _change("replace the only key"),
    "one-step replacement by another slot": _change("replace the only key by another slot"),
    "first format": _format(),
}


def perform(directory: Path, name: str) -> None:
    """Perform the operation `name` on the node in `directory`, which is a mounted STATE for "config store"."""
    if name == "config store":
        store_config(str(directory), parse_machine_config(CONFIGS[1], "a test"))
        return
    OPERATIONS[name].perform(Node(directory))
