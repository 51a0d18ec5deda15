"""Plain volumes with files on them, as files, and how to tell that what was on them is there under encryption."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from luksctl.cryptsetup.device import Device
from luksctl.model.config import CHEAPEST_KDF, STATE, EncryptionPolicy, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import Luks2
from luksctl.reconcile.plan_reencrypt import bytes_done
from luksctl.reconcile.reencryption import reencrypt_session
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from tests.reconcile.images import Node

PLAIN_BYTES = 80 * MIB
TAIL_BYTES = 32 * MIB
SAVED = "shrinking.blocks"
_SECTOR = 512


def in_place_wish(encryption: VolumeEncryption | None, kept: Path | None = None) -> DesiredVolume:
    """Return a wish for STATE that lets a plain volume be encrypted in place; `kept` stands for another volume."""
    shrinking = "" if kept is None else str(kept / SAVED)
    return DesiredVolume(STATE, encryption, EncryptionPolicy(kdf=CHEAPEST_KDF, in_place=True), shrinking=shrinking)


def plain_ext4(
    directory: Path,
    *,
    filesystem_bytes: int = PLAIN_BYTES - TAIL_BYTES,
    size_bytes: int = PLAIN_BYTES,
    full: float = 0.5,
) -> Node:
    """Return a node whose STATE is an ext4 of that size on a larger device, as full as that with random files."""
    state = directory / "state.img"
    files = directory / "files"
    files.mkdir()
    _fill(files, int(filesystem_bytes * full))
    with state.open("xb") as target:
        target.truncate(size_bytes)
    options = ["-q", "-m", "0", "-O", "^resize_inode", "-J", "size=1", "-N", "512", "-d", str(files)]
    run_program(["mkfs.ext4", *options, str(state), f"{filesystem_bytes // KIB}k"])
    return Node(directory)


def plain_xfs(directory: Path, *, filesystem_bytes: int = 300 * MIB, size_bytes: int = 332 * MIB) -> Node:
    """Return a node whose STATE is an xfs of that size on a device of `size_bytes`."""
    state = directory / "state.img"
    with state.open("xb") as target:
        target.truncate(size_bytes)
    run_program(["mkfs.xfs", "-q", "-d", f"size={filesystem_bytes}", str(state)])
    return Node(directory)


def run_to_its_end(node: Node, wish: DesiredVolume) -> list[str]:
    """Do what is left by the runner, without a mapping; return the names of its steps."""
    with reencrypt_session(wish, node.volume_settings, node.ports, lambda _done, _total: None) as running:
        return [type(done.step).__name__ for done in running.go_on()]


def how_far_it_comes(node: Node, wish: DesiredVolume) -> list[tuple[int, int]]:
    """Do what is left by the runner, and return what the header said after each hot zone: bytes done, and in all."""
    told: list[tuple[int, int]] = []

    def look(_done: int, _total: int) -> None:
        found = node.observe()
        if isinstance(found, Luks2):
            told.append(bytes_done(found))

    with reencrypt_session(wish, node.volume_settings, node.ports, look) as running:
        list(running.go_on())
    return told


def decrypted(node: Node, volume_key: Secret, size_bytes: int) -> bytes:
    """Return the first bytes of the data, decrypted without libcryptsetup (aes-xts-plain64, sectors of 512)."""
    with volume_key.view() as view:
        key = bytes(view)
    with node.state.open("rb") as source:
        source.seek(16 * MIB)
        data = source.read(size_bytes)
    plain = []
    for sector in range(size_bytes // _SECTOR):
        cipher = Cipher(algorithms.AES(key), modes.XTS(struct.pack("<QQ", sector, 0))).decryptor()
        plain.append(cipher.update(data[sector * _SECTOR : (sector + 1) * _SECTOR]))
    return b"".join(plain)


def assert_holds(node: Node, passphrase: bytes, before: bytes) -> None:
    """Raise unless all of `before` is what the volume decrypts to."""
    with Device.open(str(node.state)) as luks, Secret.take(passphrase) as key, luks.volume_key(key) as volume_key:
        if decrypted(node, volume_key, len(before)) != before:
            raise AssertionError("the data is not what it was")


def _fill(directory: Path, size_bytes: int) -> None:
    made = random.Random(size_bytes)  # noqa: S311  # the same files each time
    piece = 256 * KIB
    for number in range(size_bytes // piece):
        (directory / f"file-{number}").write_bytes(made.randbytes(piece))


def files_of(state: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of an ext4, and where each symbolic link leads."""
    target = state.parent / f"dump-{state.name}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    debugfs(state, f"rdump / {target}")
    found = {}
    for path in target.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(target))] = str(path.readlink())
        elif path.is_file():
            found[str(path.relative_to(target))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def debugfs(state: Path, *requests: str, write: bool = False) -> None:
    """Have debugfs do what is asked for; what it could not do, it only says."""
    argv = ["debugfs", *(["-w"] if write else []), "-f", "-", str(state)]
    run_program(argv, "\n".join(requests))


def e2fsck(state: Path) -> None:
    """Raise unless e2fsck finds nothing to mend; writes nothing."""
    run_program(["e2fsck", "-f", "-n", str(state)])


def run_program(argv: list[str], text: str = "") -> None:
    """Run a program of the system to its end; raises CalledProcessError where it fails."""
    environment = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    subprocess.run(argv, check=True, capture_output=True, env=environment, input=text.encode())
