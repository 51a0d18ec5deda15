"""What is killed anywhere: the operations of the write harness, and a rotation through several configs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.faults.operations import OPERATIONS, Operation
from tests.reconcile.images import Node
from tests.reconcile.rotations import ROTATIONS, boot
from tests.reconcile.stage import Stage, boot_to_sync, secret_of, stock_opens

_FIVE: Final = ROTATIONS["rotation of five"]
_REACHED: Final = "reached"


def _prepare(directory: Path) -> None:
    Stage(directory).node(_FIVE[0])
    (directory / _REACHED).write_text("0", encoding="ascii")


def _perform(directory: Path) -> None:
    for number, keys in enumerate(_FIVE[1:], start=1):
        (directory / _REACHED).write_text(str(number), encoding="ascii")
        list(boot(Node(directory), keys))


def _next_boot(directory: Path) -> None:
    """Go on where it was: each boot ends in sync, and at the end only the last key opens, on the raw image."""
    node = Node(directory)
    for keys in _FIVE[int((directory / _REACHED).read_text(encoding="ascii")) :]:
        boot_to_sync(node, keys)
    texts = {secret_of(node, key) for keys in _FIVE for key in keys.keys}
    (last,) = _FIVE[-1].keys
    if {text for text in texts if stock_opens(node.state, text)} != {secret_of(node, last)}:
        raise AssertionError("another key than the last one opens")


KILLED: Final = {**OPERATIONS, "rotation of five": Operation(_prepare, _perform, _next_boot)}
