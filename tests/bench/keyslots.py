"""What opening and checking all configured keys costs beside one run of the key derivation: keyslots in sync."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from luksctl.model.config import (
    STATE,
    ConfiguredKey,
    EncryptionPolicy,
    Filesystem,
    KdfCost,
    StaticKey,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.reconcile.converge import converge, session
from luksctl.secret import Secret
from luksctl.value import replace
from tests.bench.measure import ROUNDS, Figure, command
from tests.reconcile.images import Node

SYNC_GOAL = 1.10
_KDF = KdfCost(time=4, memory_kib=256 * 1024, threads=1)


def sync_of(count: int, directory: Path) -> Figure:
    """Measure from the first key derivation to the end of the comparison of `count` keys that are in sync.

    Beside it, what one `cryptsetup open --test-passphrase` of the same slot takes, and so many of them one by one.
    """
    wish = _wish(count)
    node = Node(directory)
    list(converge(wish, node.volume_settings, node.ports))
    node.reboot()
    key_file = directory / "key"
    key_file.write_bytes(_passphrase(0))
    options = ("--test-passphrase", "--key-slot", "0", "--key-file", str(key_file))
    peer = command(("cryptsetup", "open", *options, str(node.state)))
    ours, theirs, runs = [], [], 0
    for number in range(ROUNDS + 1):
        taken_ms, runs = _open_and_compare(node, replace(wish, sync=True))
        begun = time.perf_counter()
        peer()
        if number > 0:
            ours.append(taken_ms)
            theirs.append((time.perf_counter() - begun) * 1000)
    one = median(theirs)
    if runs != 1:
        raise RuntimeError(f"{count} keys in sync took {runs} key derivations")
    words = f"1 key derivation; slot by slot: {count * one:.0f} ms"
    return Figure(
        f"open and sync: {count} keys", median(ours) / one, "x cryptsetup open --test-passphrase", words, SYNC_GOAL
    )


def _open_and_compare(node: Node, wish: DesiredVolume) -> tuple[float, int]:
    """Return the milliseconds from the first key derivation on, and how many there were."""
    node.kdf_runs.clear()
    node.kdf_begun_s = None
    with session(wish, node.volume_settings, node.ports) as running:
        list(running.unlock())
        planned = running.compare()
    ended = time.perf_counter()
    if not planned.in_sync or node.kdf_begun_s is None:
        raise RuntimeError("the keyslots are not in sync")
    return (ended - node.kdf_begun_s) * 1000, len(node.kdf_runs)


def _wish(count: int) -> DesiredVolume:
    keys = tuple(ConfiguredKey(slot, StaticKey(Secret.take(_passphrase(slot)))) for slot in range(count))
    policy = EncryptionPolicy(kdf=_KDF, talos_readable=False, filesystems=((STATE, Filesystem.EXT4),))
    return DesiredVolume(STATE, VolumeEncryption(keys), policy)


def _passphrase(slot: int) -> bytes:
    return f"a passphrase for measuring, {slot}".encode()
