"""A reset while a machine config is on trial: refused, or the end of the trial; never a trial that nothing can end."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import Refused
from luksctl.model.config import EPHEMERAL, META, STATE, MachineConfig
from luksctl.model.intent import EraseMethod
from luksctl.node import trial
from luksctl.node.apply_config import apply_config
from luksctl.node.modes import How, Mode
from luksctl.node.reset import announce, erase_announced, look_at
from luksctl.node.sources import parse_config, store_config
from luksctl.node.sync import adopt
from luksctl.node.taking_back import revert
from luksctl.value import replace
from tests.node.image_node import POLICY, ImageNode, NotedUnits, document, static
from tests.providers.stock import opens

KEPT, TRIED = "the passphrase that stays", "the passphrase on trial"
CHEAP = "kdf: {time: 4, memory: 32KiB, threads: 1}\n"
FAST = EraseMethod.FAST


@pytest.fixture
def images(tmp_path: Path) -> ImageNode:
    """Return a running node whose volumes are ours, and whose EPHEMERAL has a second key on trial."""
    found = ImageNode(tmp_path)
    found.node = replace(found.node, system=NotedUnits(found.system.mounts))
    store_config(str(found.state), config(static(0, KEPT)))
    for volume in (STATE, EPHEMERAL):
        found.format(volume, {0: KEPT})
        found.open(volume)
        adopt(found.node, volume)
    found.follow_in_meta()
    tried(found)
    assert opens(found.images[EPHEMERAL], TRIED.encode())
    return found


def config(*keys: str) -> MachineConfig:
    """Return a config in which EPHEMERAL has these keys, and each costs next to nothing."""
    documents = (document(STATE, static(0, KEPT)), document(EPHEMERAL, *keys), POLICY + CHEAP)
    return parse_config("---\n".join(documents).encode(), "a test", "machine.yaml")


def tried(images: ImageNode) -> None:
    """Apply a config on trial that adds a key to EPHEMERAL."""
    apply_config(images.node, config(static(0, KEPT), static(1, TRIED)), insecure=False, how=How(Mode.TRY))


@pytest.mark.parametrize("volumes", [(EPHEMERAL,), (META,), (META, EPHEMERAL)])
def test_what_the_trial_goes_back_to_stays(images: ImageNode, volumes: tuple[str, ...]) -> None:
    """A reset that leaves STATE is refused with both ways out; after the revert it is not."""
    before = images.bytes_of()
    with pytest.raises(Refused, match="on trial") as refused:
        look_at(images.node, volumes, FAST, named=True)
    assert "luksctl trial revert" in str(refused.value.hint)
    assert images.bytes_of() == before
    assert revert(images.node)
    assert not opens(images.images[EPHEMERAL], TRIED.encode())
    assert look_at(images.node, volumes, FAST, named=True)


def test_a_trial_that_begins_while_the_operator_is_asked_counts(images: ImageNode) -> None:
    """Announced is only what is still right when it is."""
    revert(images.node)
    targets = look_at(images.node, (EPHEMERAL,), FAST, named=True)
    tried(images)
    before = images.bytes_of()
    with pytest.raises(Refused, match="on trial"):
        announce(images.node, targets)
    assert images.bytes_of() == before


@pytest.mark.parametrize("volumes", [(STATE,), (STATE, EPHEMERAL), (META, STATE, EPHEMERAL)])
def test_a_reset_of_state_ends_the_trial(images: ImageNode, volumes: tuple[str, ...]) -> None:
    """With the announcement, so nothing tries to take it back from a STATE that is on its way out."""
    announce(images.node, look_at(images.node, volumes, FAST, named=True))
    assert trial.pending(images.node) is None
    assert not revert(images.node)


def test_no_trial_begins_while_a_reset_is_announced(images: ImageNode) -> None:
    """Nothing could take it back from there."""
    revert(images.node)
    announce(images.node, look_at(images.node, (EPHEMERAL,), FAST, named=True))
    with pytest.raises(Refused, match="reset of EPHEMERAL is announced"):
        tried(images)
    assert trial.pending(images.node) is None
    images.mappings.clear()
    assert erase_announced(images.node)[0].waits is None
