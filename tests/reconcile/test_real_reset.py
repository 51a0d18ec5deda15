"""A reset over a real header and a real META in files: every step leaves what simulate says, and the end is blank."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import NeedsReboot
from luksctl.model.announced_step import AnnounceReset, ConcludeReset
from luksctl.model.config import STATE
from luksctl.model.intent import EraseMethod, ResetIntent
from luksctl.model.observed import Blank, Erasing
from luksctl.model.simulate import simulate
from luksctl.reconcile.converge import converge, session
from tests.reconcile.essence import essence
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.stage import keys_that_open

WISH = cheap_wish(encrypted(static(0), node_id(4)))


def erasing(directory: Path, method: EraseMethod) -> Node:
    """Return a node whose STATE is formatted and announced to be erased."""
    node = Node(directory)
    list(converge(WISH, node.volume_settings, node.ports))
    identity = str(node.state.resolve())
    intent = ResetIntent(STATE, identity, method)
    node.ports.meta.update_record(lambda record: record.with_intent(intent))
    return node


@pytest.mark.parametrize("method", EraseMethod)
def test_simulate_says_what_each_step_leaves(tmp_path: Path, method: EraseMethod) -> None:
    """From a closed volume, and from one whose idle mapping is closed on the way."""
    node = erasing(tmp_path, method)
    simulated = node.world()
    assert isinstance(simulated.observed, Erasing)
    assert simulated.observed.mapping is not None
    names = []
    with session(WISH, node.volume_settings, node.ports) as running:
        for done in running.erase():
            simulated = simulate(simulated, done.step)
            assert essence(node.world()) == essence(simulated), done.step
            names.append(type(done.step))
    assert (names[0], names[-1]) == (AnnounceReset, ConcludeReset)
    assert isinstance(node.observe(), Blank)
    if method is EraseMethod.ZEROES:
        assert node.state.read_bytes().count(0) == node.state.stat().st_size


def test_below_a_mapping_in_use_the_steps_leave_what_simulate_says(tmp_path: Path) -> None:
    """The header is gone, the data is not, and the old key opens nothing any more."""
    node = erasing(tmp_path, EraseMethod.FAST)
    node.boot.used_by = "the mount of it"
    simulated = node.world()
    data = node.state.read_bytes()[16 << 20 :]
    why = ""
    with session(WISH, node.volume_settings, node.ports) as running:
        try:
            for done in running.erase():
                simulated = simulate(simulated, done.step)
                assert essence(node.world()) == essence(simulated), done.step
        except NeedsReboot as error:
            why = error.cause
    assert "in use by the mount of it" in why
    left = node.state.read_bytes()
    assert left[: 16 << 20].count(0) == 16 << 20
    assert left[16 << 20 :] == data
    with pytest.raises(AssertionError, match="not a finished LUKS2 volume"):
        keys_that_open(node, b"anything")


def test_one_converge_erases_and_formats_anew(tmp_path: Path) -> None:
    """Whoever opens a volume whose reset is announced ends the reset first: here, by the same config."""
    node = erasing(tmp_path, EraseMethod.FAST)
    node.reboot()
    names = [type(done.step).__name__ for done in converge(WISH, node.volume_settings, node.ports)]
    assert names.index("ConcludeReset") < names.index("FormatVolume")
    assert "OpenVolume" not in names[: names.index("ConcludeReset")]
    assert node.facts().record.intents == ()
