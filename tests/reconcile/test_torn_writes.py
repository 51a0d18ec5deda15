"""Torn writes: the real media before and after each step, mixed block by block, as a power cut may leave them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from luksctl.errors import Refused
from luksctl.model.config import STATE
from luksctl.model.header import Copies
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import MetaState, NodeRecord
from luksctl.model.observed import Luks2, Unfinished
from luksctl.model.step import AddKeyslot, Done, FinishVolume, FormatVolume, Step
from luksctl.reconcile.converge import converge
from luksctl.units import KIB
from luksctl.value import replace
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static

WISH = cheap_wish(encrypted(static(0), node_id(4)))
BLOCK_BYTES = 4 * KIB
KEYSLOTS_OFFSET = 32 * KIB
META_COPY_BYTES = 256 * KIB


@dataclass(frozen=True)
class Snapshot:
    """What was on the media after a step (None: before the first); `inside` is what was made above the mapping."""

    done: Done | None
    state: bytes
    meta: bytes
    inside: bytes


@dataclass(frozen=True)
class History:
    """The media before and after every step of one first boot in `directory`, which is part of what intents name."""

    directory: Path
    snapshots: tuple[Snapshot, ...]

    def around(self, *kinds: type[Step]) -> list[tuple[Snapshot, Snapshot]]:
        """Return the media before and after each step of those kinds."""
        return [(a, b) for a, b in pairwise(self.snapshots) if b.done is not None and isinstance(b.done.step, kinds)]

    def place(self, state: bytes, meta: bytes, inside: bytes = b"") -> Node:
        """Return the node after a reboot with these media."""
        node = Node(self.directory)
        node.inside.write_bytes(inside)
        node.state.write_bytes(state)
        node.meta.write_bytes(meta)
        return node


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Record one first boot."""
    node = Node(tmp_path_factory.mktemp("history"))
    taken = [snapshot(node, None)]
    taken.extend(snapshot(node, done) for done in converge(WISH, node.volume_settings, node.ports))
    return History(node.state.parent, tuple(taken))


def snapshot(node: Node, done: Done | None) -> Snapshot:
    """Return what is on the media now."""
    inside = node.inside.read_bytes() if node.inside.exists() else b""
    return Snapshot(done, node.state.read_bytes(), node.meta.read_bytes(), inside)


def boot(node: Node) -> None:
    """Converge, and assert that STATE may be mounted."""
    list(converge(WISH, node.volume_settings, node.ports))
    observed, facts = node.observe(), node.facts()
    assert isinstance(observed, Luks2)
    assert observed.copies.state is Copies.EQUAL
    assert observed.mapping is not None
    assert observed.mapping.signature is not None
    assert facts.state is MetaState.OK
    assert facts.record.intents == ()
    assert facts.state_encryption == WISH.encryption


def changed_blocks(before: bytes, after: bytes) -> list[int]:
    """Return the offsets of the blocks that a step changed."""
    offsets = range(0, len(after), BLOCK_BYTES)
    return [at for at in offsets if before[at : at + BLOCK_BYTES] != after[at : at + BLOCK_BYTES]]


def torn(before: bytes, after: bytes, written: set[int]) -> bytes:
    """Return `before` with only the `written` blocks of `after`."""
    image = bytearray(before)
    for at in written:
        image[at : at + BLOCK_BYTES] = after[at : at + BLOCK_BYTES]
    return bytes(image)


@pytest.mark.parametrize("seed", range(8))
def test_any_torn_header_write_is_finished_by_the_next_boot(history: History, seed: int) -> None:
    """Any subset of a step's blocks on the medium, in no order: still ours, and the next boot ends mountable."""
    chance = random.Random(seed)  # noqa: S311  # nothing secret: reproducible by its seed
    before, after = chance.choice(history.around(FormatVolume, AddKeyslot))
    blocks = changed_blocks(before.state, after.state)
    written = set(chance.sample(blocks, chance.randrange(len(blocks) + 1)))
    boot(history.place(torn(before.state, after.state, written), before.meta))


def test_each_prefix_of_the_finishing_write_is_unfinished_or_finished(history: History) -> None:
    """The last header write, cut after each of its blocks: never damaged or foreign, and the next boot ends well."""
    ((before, after),) = history.around(FinishVolume)
    blocks = changed_blocks(before.state, after.state)
    assert len(blocks) >= 2
    for count in range(len(blocks) + 1):
        image = torn(before.state, after.state, set(blocks[:count]))
        node = history.place(image, before.meta, before.inside)
        assert isinstance(node.observe(), Unfinished if count == 0 else Luks2), count
        boot(node)


def test_each_cut_of_a_format_is_foreign_without_its_intent(history: History) -> None:
    """The same torn bytes where META announces nothing: refused, and not one byte is changed."""
    ((before, after),) = history.around(FormatVolume)
    blocks = changed_blocks(before.state, after.state)
    head = {block for block in blocks if block < KEYSLOTS_OFFSET}
    body = set(blocks) - head
    for written in ({min(body)}, body, {*body, min(head)}, {*body, *head}):
        node = history.place(torn(before.state, after.state, written), history.snapshots[0].meta)
        was = node.bytes_on_disk()
        with pytest.raises(Refused):
            boot(node)
        assert node.bytes_on_disk() == was


def test_meta_torn_at_any_of_its_writes_is_mended(history: History) -> None:
    """Copy A new with copy B old, and copy A torn with copy B old: each time the next boot mends META and ends well."""
    writes = [(before, after) for before, after in pairwise(history.snapshots) if before.meta != after.meta]
    assert len(writes) >= 5
    for before, after in writes[1:]:
        copy_a = [block for block in changed_blocks(before.meta, after.meta) if block < META_COPY_BYTES]
        a_is_new = torn(before.meta, after.meta, set(copy_a))
        boot(history.place(after.state, a_is_new, after.inside))
        a_is_torn = bytearray(before.meta)
        a_is_torn[copy_a[0] : copy_a[0] + 512] = bytes(512)
        boot(history.place(before.state, bytes(a_is_torn), before.inside))


def test_an_intent_of_another_image_permits_nothing(history: History) -> None:
    """META announces a format of something else: what a cut left here is not ours."""
    ((_, after),) = history.around(FormatVolume)
    node = history.place(after.state, after.meta)

    def elsewhere(record: NodeRecord) -> NodeRecord:
        intent = record.intent(STATE)
        assert isinstance(intent, FormatIntent)
        return record.with_intent(replace(intent, partition="/srv/another.img"))

    node.ports.meta.update_record(elsewhere)
    was = node.bytes_on_disk()
    with pytest.raises(Refused):
        boot(node)
    assert node.bytes_on_disk() == was
