"""Recovery keyslots on real headers: as simulated after every step, and healed by the next boot after any."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from luksctl.model.observed import Luks2
from luksctl.model.simulate import simulate
from luksctl.model.step import Done
from luksctl.providers.recovery_key import make_recovery_key
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import converge
from luksctl.reconcile.recovery import RecoverySession, recovery_session, recovery_slots, slot_opened_by
from luksctl.secret import Secret
from luksctl.value import replace
from tests.providers.stock import opens
from tests.reconcile.essence import essence
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static

WISH = replace(cheap_wish(encrypted(static(0, b"one"), node_id(4))), sync=True)
ADDING, REMOVING = 5, 3


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node whose STATE was formatted and is open."""
    found = Node(tmp_path)
    list(converge(WISH, found.volume_settings, found.ports))
    return found


@pytest.fixture
def key() -> Iterator[Secret]:
    """Return a recovery key."""
    with make_recovery_key() as made:
        yield made


def found(node: Node) -> Luks2:
    """Return what is on STATE."""
    observed = node.observe()
    assert isinstance(observed, Luks2)
    return observed


def take(node: Node, steps: Iterator[Done]) -> None:
    """Take the steps, and hold the real header against what simulate says, after each."""
    simulated = node.world()
    for done in steps:
        simulated = simulate(simulated, done.step)
        assert essence(node.world()) == essence(simulated), done


def added(node: Node, running: RecoverySession, key: Secret) -> int:
    """Add the key, checked step by step."""
    slot = running.free_slot()
    take(node, running.add(slot, key))
    return slot


def text_of(key: Secret) -> bytes:
    """Return the key as the sheet has it."""
    with key.view() as view:
        return bytes(view)


def test_each_step_leaves_what_is_simulated(node: Node, key: Secret) -> None:
    """Added and removed; the stock tool opens with the typed form in between, and not afterwards."""
    assert not opens(node.state, text_of(key))
    with recovery_session(WISH, node.volume_settings, node.ports) as running:
        take(node, running.unlock())
        slot = added(node, running, key)
    assert opens(node.state, text_of(key))
    assert slot_opened_by(node.ports, found(node).device, found(node).header, key) == slot
    before = node.bytes_on_disk()
    node.reboot()
    list(converge(WISH, node.volume_settings, node.ports))
    assert node.bytes_on_disk() == before
    with recovery_session(WISH, node.volume_settings, node.ports) as running:
        take(node, running.unlock())
        take(node, running.remove(slot))
    assert not opens(node.state, text_of(key))
    assert opens(node.state, b"one")


@pytest.mark.parametrize("steps", range(ADDING + 1))
def test_an_end_after_any_step_of_adding(node: Node, key: Secret, steps: int) -> None:
    """Before it was noted, the next boot takes it away; afterwards it stays."""
    with recovery_session(WISH, node.volume_settings, node.ports) as running:
        list(running.unlock())
        slot = running.free_slot()
        assert len(list(islice(running.add(slot, key), steps))) == steps
    _boots_well(node)
    expected = (slot,) if steps == ADDING else ()
    assert recovery_slots(found(node).header) == expected
    assert opens(node.state, text_of(key)) == bool(expected)


@pytest.mark.parametrize("steps", range(REMOVING + 1))
def test_an_end_after_any_step_of_removing(node: Node, key: Secret, steps: int) -> None:
    """Before it was disowned it stays; afterwards the next boot finishes it."""
    with recovery_session(WISH, node.volume_settings, node.ports) as running:
        list(running.unlock())
        slot = added(node, running, key)
        assert len(list(islice(running.remove(slot), steps))) == steps
    _boots_well(node)
    expected = (slot,) if steps == 0 else ()
    assert recovery_slots(found(node).header) == expected
    assert opens(node.state, text_of(key)) == bool(expected)


def _boots_well(node: Node) -> None:
    """Boot, and check that no slot is there that nobody knows of, and that another boot writes nothing."""
    node.reboot()
    list(converge(WISH, node.volume_settings, node.ports))
    header = found(node).header
    books = unverified(header)
    assert books is not None
    assert books.underway == ()
    assert {slot.number for slot in header.keyslots} == {0, 4, *recovery_slots(header)}
    assert opens(node.state, b"one")
    node.reboot()
    before = node.bytes_on_disk()
    list(converge(WISH, node.volume_settings, node.ports))
    assert node.bytes_on_disk() == before
