"""As many keys as a header holds, on real headers: 30 of mixed kinds, what does not fit, and 31 and 32."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import Degraded, Refused
from luksctl.model.config import VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.json_budget import budget_of_format
from luksctl.reconcile.converge import converge
from luksctl.value import replace
from tests.reconcile.images import Node
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import following
from tests.reconcile.stage import assert_in_sync, header_of, secret_of, stock, stock_opens

MOST_THAT_TALOS_READS = 29


def many(count: int, *, first: bytes = b"key 0") -> VolumeEncryption:
    """Return `count` keys: one of the machine, the others passphrases."""
    others = (static(slot, b"key %d" % slot) for slot in range(1, count - 1))
    return encrypted(static(0, first), *others, node_id(count - 1))


def wish(keys: VolumeEncryption, *old: VolumeEncryption, talos_readable: bool = False) -> DesiredVolume:
    """Return the wish of STATE's own config."""
    desired = following(keys, *old)
    return replace(desired, policy=replace(desired.policy, talos_readable=talos_readable))


def bring_up(node: Node, desired: DesiredVolume) -> list[str]:
    """Boot, and return the names of the steps."""
    node.reboot()
    return [type(done.step).__name__ for done in converge(desired, node.volume_settings, node.ports)]


@pytest.mark.parametrize(("count", "talos_readable"), [(30, False), (MOST_THAT_TALOS_READS, True)])
def test_so_many_keys_fit_and_one_of_them_can_be_changed(tmp_path: Path, count: int, *, talos_readable: bool) -> None:
    """Formatted, changed in place through a spare, and in sync at the cost of one key derivation."""
    node = Node(tmp_path)
    old, new = many(count), many(count, first=b"changed")
    bring_up(node, wish(old, talos_readable=talos_readable))
    budget = budget_of_format(old, wish(old, talos_readable=talos_readable).policy)
    spare_bytes = 320
    assert budget.needed_bytes - 2 * spare_bytes < len(header_of(node).json) < budget.needed_bytes - spare_bytes + 40
    bring_up(node, wish(new, old, talos_readable=talos_readable))
    assert_in_sync(node, new)
    assert not stock_opens(node.state, b"key 0", 0)
    node.kdf_runs.clear()
    before = node.bytes_on_disk()
    assert bring_up(node, wish(new, talos_readable=talos_readable)) == ["OpenVolume"]
    assert len(node.kdf_runs) == 1
    assert node.bytes_on_disk() == before


def test_one_more_is_not_formatted_and_nothing_is_written(tmp_path: Path) -> None:
    """The header that Talos reads is too small for 30: refused before the first write, with what to change."""
    node = Node(tmp_path)
    before = node.bytes_on_disk()
    with pytest.raises(Refused, match="30 keys may need") as caught:
        bring_up(node, wish(many(30), talos_readable=True))
    assert "talosReadable: false" in (caught.value.hint or "")
    assert node.bytes_on_disk() == before


def test_keys_that_do_not_fit_are_not_added_and_those_that_are_there_stay(tmp_path: Path) -> None:
    """A config that grew beyond the header: not one byte of it is written, and the message says how much is missing."""
    node = Node(tmp_path)
    few, more = many(25), encrypted(*many(25).keys, *(static(slot, b"more") for slot in range(25, 30)))
    bring_up(node, wish(few, talos_readable=True))
    before = node.state.read_bytes()
    with pytest.raises(Degraded, match="room for 12288 bytes of JSON"):
        bring_up(node, wish(more, few, talos_readable=True))
    assert node.state.read_bytes() == before


@pytest.mark.parametrize("count", [31, 32])
def test_without_bookkeeping_every_key_is_tried_and_a_missing_one_added(tmp_path: Path, count: int) -> None:
    """31 and 32 keys open and sync by real tries; nothing is noted, and a second run writes nothing."""
    node = Node(tmp_path)
    keys = many(count)
    bring_up(node, wish(keys))
    missing = keys.keys[3]
    stock("luksKillSlot", str(node.state), str(missing.slot))
    steps = bring_up(node, wish(keys))
    assert "AddKeyslot" in steps
    assert stock_opens(node.state, secret_of(node, missing), missing.slot)
    assert {slot.number for slot in header_of(node).keyslots} == set(range(count))
    assert header_of(node).tokens == ()
    before = node.bytes_on_disk()
    node.kdf_runs.clear()
    bring_up(node, wish(keys))
    assert sorted(node.kdf_runs) == list(range(count))
    assert node.bytes_on_disk() == before


def test_what_is_lost_with_so_many_keys_is_said(tmp_path: Path) -> None:
    """A key that was replaced or dropped stays in the header: a failed sync that names its slot."""
    node = Node(tmp_path)
    keys = many(32)
    bring_up(node, wish(keys))
    before = node.state.read_bytes()
    with pytest.raises(Degraded, match="slot 0: the keyslot is in use"):
        bring_up(node, wish(many(32, first=b"another")))
    with pytest.raises(Degraded, match="slot 31: it is not in the config"):
        bring_up(node, wish(encrypted(*keys.keys[:-1])))
    assert node.state.read_bytes() == before


@pytest.mark.parametrize("last", ["ProveKey", "RemoveKeyslot"])
def test_a_change_that_was_cut_in_a_full_header_is_finished(tmp_path: Path, last: str) -> None:
    """The spare is there already, so finishing needs no room for another one."""
    node = Node(tmp_path)
    old, new = many(MOST_THAT_TALOS_READS), many(MOST_THAT_TALOS_READS, first=b"changed")
    bring_up(node, wish(old, talos_readable=True))
    node.reboot()
    desired = wish(new, old, talos_readable=True)
    for done in converge(desired, node.volume_settings, node.ports):
        if type(done.step).__name__ == last:
            break
    bring_up(node, desired)
    assert_in_sync(node, new)
