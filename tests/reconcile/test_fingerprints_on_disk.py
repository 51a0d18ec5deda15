"""A fingerprint is never believed where the slot is not what it was: damaged, half destroyed, changed, or put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.cryptsetup.metadata import Area, parse_metadata
from luksctl.model.config import ConfiguredKey, VolumeEncryption
from tests.reconcile.images import Node
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import NEW, OLD, OTHER, boot
from tests.reconcile.stage import (
    Stage,
    assert_in_sync,
    assert_next_boot_is_quiet,
    header_of,
    secret_of,
    stock,
    stock_opens,
)

SECTOR_BYTES = 4096
TWO = encrypted(static(0, NEW), static(1, OTHER))
MIXED = encrypted(static(0, NEW), node_id(5))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return one stage for all: each list of keys is formatted once."""
    return Stage(tmp_path_factory.mktemp("fingerprints"))


def area_of(node: Node, slot: int) -> Area:
    """Return where the key material of `slot` lies."""
    return next(area for area in parse_metadata(header_of(node).json).areas if area.slot == slot)


def overwrite(path: Path, offset_bytes: int, content: bytes) -> None:
    """Change bytes of a file in place."""
    with path.open("r+b") as target:
        target.seek(offset_bytes)
        target.write(content)


def assert_each_key_opens(node: Node, keys: VolumeEncryption) -> None:
    """Check with the stock tool that each key opens its own slot, and that all is as the config says."""
    assert_in_sync(node, keys)
    assert [key.slot for key in keys.keys if not stock_opens(node.state, secret_of(node, key), key.slot)] == []
    assert_next_boot_is_quiet(node, keys)


@pytest.mark.parametrize("keys", [TWO, MIXED], ids=["static", "nodeID"])
@pytest.mark.parametrize("which", [0, 1], ids=["the first slot", "the other slot"])
@pytest.mark.parametrize("length", [1, SECTOR_BYTES], ids=["one byte", "half destroyed"])
def test_a_damaged_key_area_is_noticed_tried_and_made_anew(
    stage: Stage, keys: VolumeEncryption, which: int, length: int
) -> None:
    """One byte of the area, or its first sectors, as a cut destroy does: the slot is tried, fails, is replaced."""
    node = stage.node(keys)
    slot = keys.keys[which].slot
    place = area_of(node, slot).offset_bytes
    with node.state.open("rb") as source:
        source.seek(place)
        before = source.read(length)
    overwrite(node.state, place, bytes(byte ^ 0x55 for byte in before))
    assert not stock_opens(node.state, secret_of(node, keys.keys[which]), slot)
    node.kdf_runs.clear()
    list(boot(node, keys))
    assert slot in node.kdf_runs
    assert_each_key_opens(node, keys)


def test_a_slot_changed_with_the_stock_tool_is_noticed_and_set_back(stage: Stage) -> None:
    """The config says which key is in a slot of ours: a passphrase set by hand opens nothing after the next boot."""
    node = stage.node(TWO)
    change_by_hand(node, 1, OTHER, b"set by hand")
    assert stock_opens(node.state, b"set by hand", 1)
    list(boot(node, TWO))
    assert not stock_opens(node.state, b"set by hand")
    assert_each_key_opens(node, TWO)


def test_a_slot_changed_to_the_same_passphrase_is_tried_once_and_noted_again(stage: Stage) -> None:
    """Its salt is another one: one real try, a new fingerprint, and the next boot costs one key derivation again."""
    node = stage.node(TWO)
    change_by_hand(node, 1, OTHER, OTHER)
    node.kdf_runs.clear()
    steps = [type(done.step).__name__ for done in boot(node, TWO)]
    assert "RemoveKeyslot" not in steps
    assert node.kdf_runs.count(1) == 1
    assert_each_key_opens(node, TWO)


@pytest.mark.parametrize("kept", [static(1, OTHER), node_id(1)], ids=["static", "nodeID"])
def test_with_an_old_header_restored_the_rotated_out_key_goes_again(
    stage: Stage, kept: ConfiguredKey, tmp_path: Path
) -> None:
    """A header from before the rotation has its own good fingerprints; the config's key does not match them."""
    old, new = encrypted(static(0, OLD), kept), encrypted(static(0, NEW), kept)
    node = stage.node(old)
    backup = tmp_path / "header.backup"
    stock("luksHeaderBackup", str(node.state), "--header-backup-file", str(backup))
    list(boot(node, new))
    assert not stock_opens(node.state, OLD)
    stock("luksHeaderRestore", str(node.state), "--header-backup-file", str(backup))
    assert stock_opens(node.state, OLD)
    list(boot(node, new))
    assert not stock_opens(node.state, OLD)
    assert_each_key_opens(node, new)


def test_with_an_old_header_restored_a_removed_slot_goes_again(stage: Stage, tmp_path: Path) -> None:
    """The old header lists a slot that the config dropped; its own bookkeeping says it is ours, so it goes again."""
    old, new = encrypted(static(0, OLD), static(1, OTHER)), encrypted(static(1, OTHER))
    node = stage.node(old)
    backup = tmp_path / "header.backup"
    stock("luksHeaderBackup", str(node.state), "--header-backup-file", str(backup))
    list(boot(node, new))
    stock("luksHeaderRestore", str(node.state), "--header-backup-file", str(backup))
    list(boot(node, new))
    assert not stock_opens(node.state, OLD)
    assert_each_key_opens(node, new)


def change_by_hand(node: Node, slot: int, before: bytes, after: bytes) -> None:
    """Change a slot with luksChangeKey, at the least cost."""
    new_key = node.state.parent / "new.key"
    new_key.write_bytes(after)
    cheap = ("--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1")
    stock(
        "luksChangeKey", str(node.state), str(new_key), "--key-slot", str(slot), "--key-file", "-", *cheap, key=before
    )
