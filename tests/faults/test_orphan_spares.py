"""The power goes between adding a spare and writing its token: the spare opens, nobody can recover its key, it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.model.step import AddKeyslot
from luksctl.reconcile.converge import converge
from luksctl.reconcile.rotation import rotate
from luksctl.value import replace
from tests.faults.sealings import ONE, TYPED, SealingNode, formatted, next_boot_to
from tests.reconcile.images import cheap_wish
from tests.reconcile.rotations import OLD, boot, following
from tests.reconcile.stage import header_of, stock_opens
from tests.sampling import sampled

# What the slot held before, and whose token was never written: the spare's (1), or that of the slot itself (2).
CUTS = {"rotated, spare": (ONE, 1), "rotated, slot": (ONE, 2), "typed, spare": (TYPED, 1), "typed, slot": (TYPED, 2)}


@pytest.mark.parametrize("name", ["rotated, spare", *sampled(list(CUTS)[1:], 3)])
def test_a_slot_whose_token_was_never_written_opens_nothing_after_the_next_boot(name: str, tmp_path: Path) -> None:
    """The stock tool opens the raw image with its key before that boot, and afterwards with the slot's key alone.

    Of the slot itself the key is in the spare, too, which has its token; there nothing is lost.
    """
    old, add = CUTS[name]
    formatted(old)(tmp_path)
    node = SealingNode(tmp_path)
    if old == ONE:
        list(converge(cheap_wish(ONE), node.volume_settings, node.ports))
        run = rotate(replace(following(ONE), rotate=(0,)), node.volume_settings, node.ports)
    else:
        run = boot(node, ONE)
    added: list[int] = []
    for done in run:
        assert done.skipped is None
        if isinstance(done.step, AddKeyslot):
            added.append(done.step.slot)
        if len(added) == add:
            break
    del run
    assert (added[-1] == 0) == (add == 2)
    assert header_of(node).token(added[-1]) is None
    orphan = node.made()[-1]
    assert stock_opens(node.state, orphan, added[-1])
    next_boot_to(ONE)(tmp_path)
    assert stock_opens(node.state, orphan) == (add == 2)
    if old == TYPED:
        assert not stock_opens(node.state, OLD)
