"""An encrypted volume is decrypted in place: all its data is there afterwards, in the plain."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import NotBlank, Refused
from luksctl.model.config import VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.intent import DecryptIntent
from luksctl.model.observed import Decrypting, FilesystemFound
from luksctl.reconcile.converge import session
from luksctl.units import MIB
from luksctl.value import replace
from tests.reconcile.images import Node
from tests.reconcile.plain import PLAIN_BYTES, TAIL_BYTES, how_far_it_comes, in_place_wish, plain_ext4, run_to_its_end
from tests.reconcile.test_in_place import KEYS, begin, names


def plain_wish(directory: Path, keys: tuple[VolumeEncryption, ...] = (KEYS,)) -> DesiredVolume:
    """Return a wish for a STATE that is plain, and has been opened by `keys`."""
    return replace(in_place_wish(None), fallback=keys, detached=str(directory / "detached.header"))


def encrypted_volume(directory: Path) -> tuple[Node, bytes]:
    """Return a node whose STATE was encrypted in place, and what the filesystem on it was."""
    node = plain_ext4(directory)
    before = node.state.read_bytes()[: PLAIN_BYTES - TAIL_BYTES]
    begin(node)
    run_to_its_end(node, in_place_wish(KEYS))
    return node, before


def begin_back(node: Node, directory: Path) -> list[str]:
    """Decrypt in place until re-encryption takes over, and return the names of the steps."""
    with session(plain_wish(directory), node.volume_settings, node.ports) as running:
        refusal = running.look().plan.refusal
        if refusal is not None:
            raise refusal
        return names(list(running.work_in_place()))


def test_the_data_is_what_it_was(tmp_path: Path) -> None:
    """The header is kept in a file meanwhile, and the filesystem is at the head of the device again."""
    node, before = encrypted_volume(tmp_path)
    assert begin_back(node, tmp_path) == [
        "ProveAnyKey",
        "AnnounceDecryption",
        "DetachHeader",
        "BeginDecryption",
        "ConcludeDetachment",
    ]
    run_to_its_end(node, plain_wish(tmp_path))
    assert node.state.read_bytes()[: len(before)] == before
    assert node.state.stat().st_size == PLAIN_BYTES
    assert isinstance(node.observe(), FilesystemFound)
    assert (node.facts().record.intents, node.facts().record.encrypted) == ((), ())
    assert not (tmp_path / "detached.header").exists()


def test_how_far_it_is_is_told_by_the_header(tmp_path: Path) -> None:
    """From nothing of the data to all of it, and never back."""
    node, _ = encrypted_volume(tmp_path)
    begin_back(node, tmp_path)
    told = how_far_it_comes(node, plain_wish(tmp_path))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0][0] == 0 < told[0][1]
    done, total = told[-1]
    assert done == total


@pytest.mark.parametrize("torn_at", [None, 4096, 20480])
def test_a_cut_between_file_and_copy_is_gone_on_from(torn_at: int | None, tmp_path: Path) -> None:
    """Where the header on the device is half overwritten, the file has it, and the copy is made once more.

    So it is where one of the copies in the file was cut as it was written.
    """
    node, before = encrypted_volume(tmp_path)
    with session(plain_wish(tmp_path), node.volume_settings, node.ports) as running:
        for done in running.work_in_place():
            if type(done.step).__name__ == "BeginDecryption":
                break
    with node.state.open("r+b") as target:
        target.write(b"\xaa" * (5 * MIB))
    if torn_at is not None:
        with (tmp_path / "detached.header").open("r+b") as header:
            header.seek(torn_at)
            header.write(b"\xaa" * 512)
    assert isinstance(node.observe(), Decrypting)
    taken = begin_back(node, tmp_path)
    assert "DetachHeader" not in taken
    assert ("RepairHeader" in taken) == (torn_at is not None)
    run_to_its_end(node, plain_wish(tmp_path))
    assert node.state.read_bytes()[: len(before)] == before


def test_without_a_key_of_before_it_is_refused_untouched(tmp_path: Path) -> None:
    """Whoever takes the keys out of the config has to have had one."""
    node, _ = encrypted_volume(tmp_path)
    before = node.bytes_on_disk()
    with session(plain_wish(tmp_path, ()), node.volume_settings, node.ports) as running:
        refusal = running.look().plan.refusal
    assert isinstance(refusal, Refused)
    assert "no config of before has a key" in refusal.cause
    assert node.bytes_on_disk() == before


def test_without_the_policy_it_is_refused_with_the_command(tmp_path: Path) -> None:
    """A config that asks for no encryption is not enough."""
    node, _ = encrypted_volume(tmp_path)
    wish = plain_wish(tmp_path)
    wish = replace(wish, policy=replace(wish.policy, in_place=False))
    with session(wish, node.volume_settings, node.ports) as running:
        refusal = running.look().plan.refusal
    assert isinstance(refusal, NotBlank)
    assert "luksctl decrypt STATE" in (refusal.hint or "")


def test_a_lost_file_before_the_copy_loses_nothing(tmp_path: Path) -> None:
    """As long as the header is on the device, it is saved once more."""
    node, before = encrypted_volume(tmp_path)
    with session(plain_wish(tmp_path), node.volume_settings, node.ports) as running:
        for done in running.work_in_place():
            if type(done.step).__name__ == "DetachHeader":
                break
    (intent,) = node.facts().record.intents
    assert isinstance(intent, DecryptIntent)
    (tmp_path / "detached.header").unlink()
    assert "DetachHeader" in begin_back(node, tmp_path)
    run_to_its_end(node, plain_wish(tmp_path))
    assert node.state.read_bytes()[: len(before)] == before
    assert isinstance(node.observe(), FilesystemFound)
