"""Keyslots follow the config on real headers: compared with simulate, with the stock tool, and after every kill."""

from __future__ import annotations

import pytest

from luksctl.model.config import StaticKey, VolumeEncryption
from luksctl.model.simulate import simulate
from tests.reconcile.essence import essence
from tests.reconcile.killed_sync import killed_boot
from tests.reconcile.rotations import CHANGES, ROTATIONS, boot
from tests.reconcile.stage import (
    Stage,
    assert_in_sync,
    assert_next_boot_is_quiet,
    boot_to_sync,
    secret_of,
    stock_opens,
)
from tests.sampling import sampled


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return one stage for all: each list of keys is formatted once."""
    return Stage(tmp_path_factory.mktemp("sync"))


@pytest.mark.parametrize("name", ROTATIONS)
def test_each_change_ends_in_sync_as_simulated(stage: Stage, name: str) -> None:
    """After every step the real header says what simulate says; then a boot costs one KDF and writes no byte.

    The stock tool opens each new key at its slot on the raw image, and a key that was taken out nowhere.
    """
    first, *later = ROTATIONS[name]
    node = stage.node(first)
    before = first
    for keys in later:
        simulated = node.world()
        for done in boot(node, keys):
            if done.skipped is None:
                simulated = simulate(simulated, done.step)
            assert essence(node.world()) == essence(simulated), done
        assert_in_sync(node, keys)
        assert_next_boot_is_quiet(node, keys)
        gone = _passphrases(before) - _passphrases(keys)
        assert [passphrase for passphrase in gone if stock_opens(node.state, passphrase)] == []
        before = keys
    assert [key.slot for key in before.keys if not stock_opens(node.state, secret_of(node, key), key.slot)] == []


def _passphrases(keys: VolumeEncryption) -> set[bytes]:
    found = set()
    for key in keys.keys:
        if isinstance(key.source, StaticKey):
            with key.source.passphrase.view() as view:
                found.add(bytes(view))
    return found


@pytest.mark.parametrize("change", sampled(list(CHANGES), 3))
def test_a_kill_after_any_step_is_healed_by_the_next_boot(stage: Stage, change: str) -> None:
    """SIGKILL before the first step, or after any: the next boot opens and ends in sync, by itself."""
    old, new = CHANGES[change]
    steps = len(list(boot(stage.node(old), new)))
    assert steps >= 4
    for count in sampled(range(steps), 5, salt=change):
        node = stage.node(old)
        killed_boot(stage.directory, change, count)
        boot_to_sync(node, new)
