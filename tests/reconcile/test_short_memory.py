"""A machine with too little memory for one slot opens by another, and says what it lacks where there is none."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from luksctl.cryptsetup.kdf import KdfBounds
from luksctl.cryptsetup.kdf_memory import KdfMemory
from luksctl.errors import Locked
from luksctl.model.config import STATE, KdfCost
from luksctl.model.ports import HeaderFormat
from luksctl.model.probe import Device
from luksctl.model.step import OpenVolume
from luksctl.providers.static import StaticProvider
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, static

KEYS = encrypted(static(0, b"needs 4 MiB"), static(1, b"needs 2 MiB, and twice the time"))
COSTS = {0: KdfCost(4, 4 * KIB, 1), 1: KdfCost(16, 2 * KIB, 1)}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node whose STATE was made elsewhere, with one slot that takes much memory and one that takes time."""
    node = Node(tmp_path)
    device = Device(str(node.state), os.path.getsize(node.state), image=True)
    how = HeaderFormat("11111111-1111-4111-8111-111111111111", "", KEYS, talos_readable=True)
    headers = node.ports.headers
    with Secret.random(64) as volume_key:
        headers.format(device, how, volume_key)
        for key in KEYS.keys:
            with StaticProvider().make(STATE, key).key as passphrase:
                headers.add_keyslot(device, key.slot, passphrase, volume_key, COSTS[key.slot])
        with volume_key.view() as view:
            node.inside.write_text(hashlib.sha256(view).hexdigest(), encoding="ascii")
    return node


def _open(node: Node, available_kib: int) -> list[int | None]:
    """Boot with so much memory; return the slots that opened."""
    lock = str(node.state.with_name("kdf.lock"))
    node.bounds = KdfBounds(memory=lambda: KdfMemory(lambda: available_kib, lock, timeout_s=0.0))
    done = converge(cheap_wish(KEYS), node.volume_settings, node.ports)
    return [each.slot for each in done if isinstance(each.step, OpenVolume)]


def test_with_enough_memory_the_quickest_slot_opens(node: Node) -> None:
    """Nothing else is tried."""
    assert _open(node, 1 * MIB) == [0]


def test_with_too_little_memory_another_key_opens(node: Node) -> None:
    """It costs more time, and the machine is not driven out of its memory first."""
    assert _open(node, 3 * KIB) == [1]


def test_with_no_memory_for_any_slot_the_error_names_each(node: Node) -> None:
    """Slot, need and memory; nothing is opened and nothing is written."""
    before = node.bytes_on_disk()
    with pytest.raises(Locked) as caught:
        _open(node, 1 * KIB)
    assert caught.value.volume == STATE
    for slot, need in ((0, "4 MiB"), (1, "2 MiB")):
        assert f"slot {slot} (" in caught.value.cause
        assert f"needs {need} of memory, and 1 MiB are available" in caught.value.cause
    assert node.bytes_on_disk() == before
