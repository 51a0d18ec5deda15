"""A volume is reset: at each moment it is what it was, or the next boot erases what is left before it opens any."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

from luksctl.model.config import META, STATE
from luksctl.model.intent import EraseMethod
from luksctl.model.meta import NodeRecord
from luksctl.model.observed import Blank
from luksctl.node.boot import finish_resets
from luksctl.node.reset import announce, erase_announced, look_at
from luksctl.node.waiting import Deadline
from luksctl.reconcile.converge import converge
from luksctl.reconcile.plan_reset import key_areas
from tests.faults.running import Running
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import OLD
from tests.reconcile.stage import Stage, assert_in_sync, header_of

KEYS: Final = encrypted(static(0, OLD), node_id(4))
_TRACES: Final = "traces"
_SAMPLE_BYTES: Final = 512


def formatted(directory: Path) -> None:
    """Make a node, and keep what its STATE could be known by: salts, and the beginning of each key area."""
    node = Stage(directory).node(KEYS)
    header = header_of(node)
    content = node.state.read_bytes()
    document = json.loads(header.json)
    found = [slot["kdf"]["salt"].encode() for slot in document["keyslots"].values()]
    found += [content[area.offset_bytes : area.offset_bytes + _SAMPLE_BYTES] for area in key_areas(header)]
    (directory / _TRACES).write_text(json.dumps([trace.hex() for trace in found]), encoding="ascii")


def state(directory: Path) -> None:
    """Reset STATE."""
    _reset(directory, (STATE,))


def state_and_meta(directory: Path) -> None:
    """Reset STATE, and META after it."""
    _reset(directory, (META, STATE))


def _reset(directory: Path, volumes: tuple[str, ...]) -> None:
    node = Running(directory).node
    announce(node, look_at(node, volumes, EraseMethod.FAST, named=True))
    erase_announced(node)


def next_boot(directory: Path) -> None:
    """Finish what is announced; then STATE is blank without a trace, or as it was. Either way it comes up."""
    running = Running(directory)
    finish_resets(running.node, STATE, Deadline(running.node, math.inf))
    node = Node(directory)
    facts = node.facts()
    if facts.record.intents:
        raise AssertionError(f"still announced: {facts.record.intents}")
    if isinstance(node.observe(), Blank):
        _expect_no_trace(directory, node)
        if facts.has_tag9 or facts.record.encrypted:
            raise AssertionError("META still knows of it")
    else:
        list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))
        assert_in_sync(node, KEYS)
        return
    list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))
    assert_in_sync(node, KEYS)


def next_boot_without_meta(directory: Path) -> None:
    """Finish it as above; where STATE is gone, META says nothing at all."""
    running = Running(directory)
    finish_resets(running.node, STATE, Deadline(running.node, math.inf))
    node = Node(directory)
    if isinstance(node.observe(), Blank) and node.facts().record != NodeRecord():
        raise AssertionError(f"META still says {node.facts().record}")
    next_boot(directory)


def _expect_no_trace(directory: Path, node: Node) -> None:
    content = node.state.read_bytes()
    for trace in json.loads((directory / _TRACES).read_text(encoding="ascii")):
        if bytes.fromhex(trace) in content:
            raise AssertionError("something of the old header or of its keys is left")
