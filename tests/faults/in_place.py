"""A plain volume is encrypted in place: at each moment all its data is there, and the next boot goes on by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from luksctl.model.announced_step import DetachHeader
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import Encrypting, FilesystemFound
from luksctl.reconcile.converge import converge, session
from luksctl.units import KIB, MIB
from luksctl.value import replace
from tests.faults.running import MOUNTED
from tests.reconcile.images import Node
from tests.reconcile.plain import assert_holds, in_place_wish, plain_ext4, run_to_its_end
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import OLD

KEYS: Final = encrypted(static(0, OLD), node_id(4))
# What the volume was, for later: the recorder looks only at the volume and at META.
_BEFORE: Final = "before"
DETACHED: Final = "detached.header"
_FILESYSTEM_BYTES: Final = 17 * MIB
_SIZE_BYTES: Final = 32 * MIB + _FILESYSTEM_BYTES + 64 * KIB


def plain(directory: Path) -> None:
    """Make a node whose STATE is plain, and keep what is on it."""
    node = plain_ext4(directory, filesystem_bytes=_FILESYSTEM_BYTES, size_bytes=_SIZE_BYTES, full=0.5)
    (directory / _BEFORE).write_bytes(node.state.read_bytes()[:_FILESYSTEM_BYTES])


def begin(directory: Path) -> None:
    """Encrypt in place, up to where re-encryption takes over."""
    node = Node(directory)
    with session(in_place_wish(KEYS), node.volume_settings, node.ports) as running:
        list(running.work_in_place())


def next_boot(directory: Path) -> None:
    """Go on from whatever is found; the volume is never taken for a plain one once its head is overwritten."""
    node = Node(directory)
    before = (directory / _BEFORE).read_bytes()
    if isinstance(node.observe(), FilesystemFound) and node.state.read_bytes()[: len(before)] != before:
        raise AssertionError("a plain filesystem is seen that is not the one that was there")
    begin(directory)
    if isinstance(node.observe(), Encrypting):
        raise AssertionError("no header is placed")
    run_to_its_end(node, in_place_wish(KEYS))
    assert_holds(node, OLD, before)


# ---- its hot zones, and the way back --------------------------------------------------------------------------------


def placed(directory: Path) -> None:
    """Make a node whose STATE has its header, and everything else before it."""
    plain(directory)
    begin(directory)


def encrypt(directory: Path) -> None:
    """Encrypt all of it."""
    run_to_its_end(Node(directory), in_place_wish(KEYS))


def encrypted_volume(directory: Path) -> None:
    """Make a node whose STATE was encrypted in place, and stands for an EPHEMERAL: tag 9 says nothing of it."""
    placed(directory)
    encrypt(directory)
    Node(directory).ports.meta.write_state_encryption(None)


def beside_files(directory: Path) -> None:
    """Make such a node that keeps the header as a file among others, by names that a cut may leave undone."""
    encrypted_volume(directory)
    (directory / MOUNTED).mkdir()


def detach(directory: Path, header: str = f"{MOUNTED}/{DETACHED}") -> None:
    """Announce that it is decrypted in place, and save the header in a file; no further."""
    node = Node(directory)
    with session(_plain_wish(directory, header), node.volume_settings, node.ports) as running:
        for done in running.work_in_place():
            if isinstance(done.step, DetachHeader):
                return


def detached_volume(directory: Path) -> None:
    """Make a node whose STATE has its header in a file, and on the device as well."""
    encrypted_volume(directory)
    detach(directory, DETACHED)


def begin_back(directory: Path) -> None:
    """Decrypt in place, up to where re-encryption takes over."""
    node = Node(directory)
    with session(_plain_wish(directory), node.volume_settings, node.ports) as running:
        list(running.work_in_place())


def begun_back(directory: Path) -> None:
    """Make a node whose STATE has its header in a file alone."""
    detached_volume(directory)
    begin_back(directory)


def decrypt(directory: Path) -> None:
    """Decrypt all of it."""
    node = Node(directory)
    if not isinstance(node.observe(), FilesystemFound):
        run_to_its_end(node, _plain_wish(directory))


def next_boot_back(directory: Path) -> None:
    """Open it as the boot does, or find it plain; go on until the filesystem is at the head, and no header is left."""
    booted = Node(directory)
    list(converge(_plain_wish(directory), booted.volume_settings, booted.ports))
    decrypt(directory)
    node = Node(directory)
    before = (directory / _BEFORE).read_bytes()
    if node.state.read_bytes()[: len(before)] != before:
        raise AssertionError("the data is not what it was")
    if not isinstance(node.observe(), FilesystemFound) or node.facts().record.intents:
        raise AssertionError(f"it is {type(node.observe()).__name__}, and META announces {node.facts().record.intents}")


def _plain_wish(directory: Path, header: str = DETACHED) -> DesiredVolume:
    return replace(in_place_wish(None), fallback=(KEYS,), detached=str(directory / header))
