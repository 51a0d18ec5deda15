"""Two runs at once, the stock tool between two steps of one, and what a cut leaves: on real headers."""

from __future__ import annotations

from contextlib import suppress

import pytest

from luksctl.errors import Busy, LuksctlError
from luksctl.model.config import StaticKey, Timeouts
from luksctl.value import replace
from tests.reconcile.images import Node
from tests.reconcile.killed_sync import paused_boot
from tests.reconcile.rotations import CHANGES, NEW, OLD, OTHER, boot
from tests.reconcile.stage import Stage, assert_in_sync, boot_to_sync, header_of, secret_of, stock, stock_opens
from tests.sampling import sampled

BY_HAND = b"added by hand"
INTO = ("add", "change in place", "remove", "replace the only key")
TAKEN = (0, 1, 12, 30)
CHEAP = ("--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return one stage for all: each list of keys is formatted once."""
    return Stage(tmp_path_factory.mktemp("among"))


def add_by_hand(node: Node, slot: int) -> None:
    """Add a keyslot with luksAddKey, opened by whatever opens now."""
    existing = next(key for key in (OLD, NEW, OTHER) if stock_opens(node.state, key))
    new_key = node.state.parent / "hand.key"
    new_key.write_bytes(BY_HAND)
    place = ("--key-slot", str(slot), "--key-file", "-")
    stock("luksAddKey", str(node.state), str(new_key), *place, *CHEAP, key=existing)


@pytest.mark.parametrize(("change", "slot"), sampled([(change, slot) for change in INTO for slot in TAKEN], 3))
def test_a_slot_added_with_the_stock_tool_between_any_two_steps_stays(stage: Stage, change: str, slot: int) -> None:
    """Whatever number it takes, also one that the run is about to use: it opens afterwards, and so does the volume."""
    old, new = CHANGES[change]
    run = boot(stage.node(old), new)
    steps = 0
    free = []
    for steps, _ in enumerate(run, start=1):
        if header_of(Node(stage.directory)).keyslot(slot) is None:
            free.append(steps)
    assert steps > 3
    for count in sampled(free, 9, salt=f"{change} {slot}"):
        node = stage.node(old)
        run = boot(node, new)
        for _ in range(count):
            next(run)
        add_by_hand(node, slot)
        with suppress(LuksctlError):
            list(run)
        blocked = {key.slot for key in new.keys} & {slot}
        if blocked:
            with suppress(LuksctlError):
                list(boot(node, new))
        else:
            list(boot(node, new))
            assert_in_sync(node, new, frozenset({slot}))
        assert stock_opens(node.state, BY_HAND, slot), count
        works = [key for key in new.keys if stock_opens(node.state, secret_of(node, key))]
        assert works, count


def test_of_two_runs_at_once_one_waits_or_is_refused(stage: Stage) -> None:
    """While a boot is between two steps, another one is Busy if it may not wait; let wait, it ends in sync."""
    change = "replace the only key"
    old, new = CHANGES[change]
    node = stage.node(old)
    with paused_boot(stage.directory, change, 4):
        impatient = Node(stage.directory)
        impatient.settings = replace(impatient.settings, timeouts=Timeouts(lock_s=0))
        before = header_of(node)
        with pytest.raises(Busy, match="STATE is locked by process"):
            list(boot(impatient, new))
        assert header_of(node) == before
    boot_to_sync(node, new)


@pytest.mark.parametrize("change", ["add", "change in place", "replace the only key", "swap"])
def test_what_a_cut_leaves_opens_nothing_where_the_config_was_taken_back(stage: Stage, change: str) -> None:
    """A change is cut after any step and taken back: no slot or spare with the new key survives the next boot."""
    old, new = CHANGES[change]
    steps = len(list(boot(stage.node(old), new)))
    for count in sampled(range(1, steps), 9, salt=change):
        node = stage.node(old)
        run = boot(node, new)
        for _ in range(count):
            next(run)
        del run
        boot_to_sync(node, old)
        kept = [key.source for key in old.keys if isinstance(key.source, StaticKey)]
        dropped = [key for key in new.keys if key.source not in kept]
        assert [key.slot for key in dropped if stock_opens(node.state, secret_of(node, key))] == [], count
