"""The whole pipe over real headers and a real META in files: first boot, second boot, kills and torn writes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.errors import LuksctlError
from luksctl.model.header import Copies
from luksctl.model.meta import MetaState
from luksctl.model.observed import FilesystemFound, Luks2
from luksctl.model.simulate import simulate
from luksctl.model.step import Done, OpenVolume, RepairHeader
from luksctl.reconcile.converge import converge, look
from luksctl.units import KIB
from tests.marker import MARKER, shown_in
from tests.reconcile.essence import essence
from tests.reconcile.images import NODE_UUID, Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static

BOTH = encrypted(static(0), node_id(4))
WISH = cheap_wish(BOTH)
PLAIN = cheap_wish(None)
BLOCK_BYTES = 4 * KIB


def boot(node: Node, desired: object = WISH) -> list[Done]:
    """Reboot and converge."""
    node.reboot()
    wanted = PLAIN if desired is PLAIN else WISH
    return list(converge(wanted, node.volume_settings, node.ports))


def assert_mountable(node: Node) -> None:
    """Assert that STATE is finished, whole on both copies, on record, and open with its filesystem."""
    observed, facts = node.observe(), node.facts()
    assert isinstance(observed, Luks2)
    assert observed.copies.state is Copies.EQUAL
    assert observed.header.subsystem == ""
    assert [slot.number for slot in observed.header.keyslots] == [0, 4]
    assert observed.mapping is not None
    assert observed.mapping.signature is not None
    assert facts.state is MetaState.OK
    assert facts.record.intents == ()
    assert facts.state_encryption == BOTH


def overwrite(path: Path, offset: int, content: bytes) -> None:
    """Change bytes of a file in place."""
    with path.open("r+b") as target:
        target.seek(offset)
        target.write(content)


def test_a_first_boot_formats_and_the_second_only_opens(tmp_path: Path) -> None:
    """Blank files end encrypted; the next boot opens with one key and changes no byte of disk or META."""
    node = Node(tmp_path)
    boot(node)
    assert_mountable(node)
    before = node.bytes_on_disk()
    done = boot(node)
    assert [type(each.step) for each in done] == [OpenVolume]
    assert node.bytes_on_disk() == before
    assert_mountable(node)


def test_a_plain_first_boot_makes_a_filesystem_and_the_second_does_nothing(tmp_path: Path) -> None:
    """Without encryption a blank file gets a filesystem, which is then left alone."""
    node = Node(tmp_path)
    boot(node, PLAIN)
    before = node.bytes_on_disk()
    assert boot(node, PLAIN) == []
    assert isinstance(node.observe(), FilesystemFound)
    assert node.bytes_on_disk() == before


@pytest.mark.parametrize("desired", [WISH, PLAIN], ids=["encrypted", "plain"])
def test_simulate_says_what_the_library_leaves(tmp_path: Path, desired: object) -> None:
    """After every step the real header, observed, is what simulate says."""
    node = Node(tmp_path)
    simulated = node.world()
    wanted = PLAIN if desired is PLAIN else WISH
    for done in converge(wanted, node.volume_settings, node.ports):
        simulated = simulate(simulated, done.step)
        assert essence(node.world()) == essence(simulated), done.step


def test_looking_changes_no_byte(tmp_path: Path) -> None:
    """Looking at a volume with a damaged copy reads it, and mends nothing."""
    node = Node(tmp_path)
    boot(node)
    overwrite(node.state, 0, bytes(BLOCK_BYTES))
    before = node.bytes_on_disk()
    node.reboot()
    found = look(WISH, node.volume_settings, node.ports)
    assert any(isinstance(step, RepairHeader) for step in found.plan.steps)
    assert node.bytes_on_disk() == before


@pytest.mark.parametrize("offset", [0, 64, 16 * KIB, 16 * KIB + 64], ids=["magic 1", "inside 1", "magic 2", "inside 2"])
def test_a_damaged_copy_is_mended_before_the_mount(tmp_path: Path, offset: int) -> None:
    """One damaged copy, whichever: opened, mended from the other one, both equal when converge returns."""
    node = Node(tmp_path)
    boot(node)
    whole = node.bytes_on_disk()
    overwrite(node.state, offset, b"\xff" * 16)
    done = boot(node)
    assert [type(each.step) for each in done] == [OpenVolume, RepairHeader]
    assert_mountable(node)
    assert node.bytes_on_disk()[1] == whole[1]


def test_a_filesystem_made_over_our_header_is_not_repaired_away(tmp_path: Path) -> None:
    """Somebody ran mkfs over the volume: copy 2 and the keys survived, and nothing is written over that filesystem.

    libblkid stops at the LUKS magic of copy 2, so it is libcryptsetup that refuses to repair.
    """
    node = Node(tmp_path)
    boot(node)
    mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
    other = tmp_path / "other.img"
    other.touch()
    subprocess.run([mkfs, "-q", str(other), "16M"], check=True)
    overwrite(node.state, 0, other.read_bytes()[: 8 * KIB])
    before = node.bytes_on_disk()
    with pytest.raises(LuksctlError, match="ambiguous signatures"):
        boot(node)
    assert node.bytes_on_disk() == before


def test_no_key_is_on_the_disk_in_clear(tmp_path: Path) -> None:
    """Neither the passphrase nor the node's UUID is on STATE's medium; META holds no UUID."""
    node = Node(tmp_path)
    desired = cheap_wish(encrypted(static(0, MARKER), node_id(4)))
    list(converge(desired, node.volume_settings, node.ports))
    raw = node.state.read_bytes()
    assert shown_in(raw) == []
    assert NODE_UUID.encode() not in raw + node.meta.read_bytes()


@pytest.mark.parametrize("steps", [3, 4, 5, 9, 12, 14, 15])
def test_a_boot_killed_after_any_step_is_finished_by_the_next(tmp_path: Path, steps: int) -> None:
    """SIGKILL after the n-th step: no lock stays, no hand is needed, the next boot ends mountable."""
    argv = [sys.executable, "-m", "tests.reconcile.killed_boot", str(tmp_path), str(steps)]
    ended = subprocess.run(argv, check=False, cwd=Path(__file__).parents[2], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    node = Node(tmp_path)
    boot(node)
    assert_mountable(node)
