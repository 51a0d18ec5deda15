"""How long formatting and unlocking take in the library's own time, beside the cryptsetup command doing the same."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2.low_level

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.cryptsetup.kdf import Pbkdf2Cost
from luksctl.devices import medium
from luksctl.model.config import KdfCost
from luksctl.secret import Secret
from tests.bench.images import PASSPHRASE, Volume, blank, formatted
from tests.bench.measure import Action, Figure, command, medians_ms

CHEAP_UNLOCK_GOAL_MS = 10.0
AT_ONCE_GOAL = 0.65
FORMAT_GOAL = 1.25
ARGON2_GOAL = 1.25
_FULL = KdfCost(time=4, memory_kib=64 * 1024, threads=1)
_CHEAP_PBKDF2 = Pbkdf2Cost(1000)


def cheap_unlock(directory: Path) -> Figure:
    """Measure one unlock of a slot that needs no stretching, from a checked copy of the header."""
    volume = formatted(directory / "cheap")
    peer = "cryptsetup open --test-passphrase"
    taken = medians_ms({"ours": lambda: _unlock(volume), peer: _cryptsetup_open(volume)})
    return Figure("unlock: cheap slot", taken["ours"], "ms", f"{peer}: {taken[peer]:.1f} ms", CHEAP_UNLOCK_GOAL_MS)


def argon2_unlock(directory: Path) -> Figure:
    """Measure what libcryptsetup and we add to one Argon2id run of 64 MiB."""
    volume = formatted(directory / "argon2", _FULL)
    peer = "argon2-cffi, raw"
    taken = medians_ms({"ours": lambda: _unlock(volume), peer: _argon2_raw})
    ratio = taken["ours"] / taken[peer]
    return Figure("unlock: Argon2id 64 MiB", ratio, f"x {peer}", f"{peer}: {taken[peer]:.0f} ms", ARGON2_GOAL)


def two_at_once(directory: Path) -> Figure:
    """Measure two unlocks in two threads beside the same two one after the other.

    Two bare Argon2 runs beside them show what two of this machine's processors are worth, which share its memory.
    """
    volumes = [formatted(directory / name, _FULL) for name in ("one", "two")]
    peer = "one after the other"

    def in_turn() -> None:
        for volume in volumes:
            _unlock(volume)

    with ThreadPoolExecutor(max_workers=2) as pool:
        taken = medians_ms(
            {
                "ours": lambda: list(pool.map(_unlock, volumes)),
                peer: in_turn,
                "bare": lambda: list(pool.map(lambda _: _argon2_raw(), volumes)),
                "bare in turn": lambda: [_argon2_raw() for _ in volumes],
            }
        )
    ratio, limit = taken["ours"] / taken[peer], taken["bare"] / taken["bare in turn"]
    words = f"{peer}: {taken[peer]:.0f} ms; bare Argon2 here: {limit:.2f}"
    return Figure("unlock: two at once", ratio, f"x {peer}", words, AT_ONCE_GOAL)


def format_volume(directory: Path) -> Figure:
    """Measure a new header with one slot, in this process, beside a cryptsetup process with the same parameters."""
    ours, theirs = directory / "ours", directory / "theirs"
    blank(ours)
    blank(theirs)
    key_file = directory / "key"
    key_file.write_bytes(PASSPHRASE)
    peer = "cryptsetup luksFormat"
    options = "--batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha256 --key-size 512"
    theirs_now = command(("cryptsetup", "luksFormat", *options.split(), "--key-file", str(key_file), str(theirs)))
    taken = medians_ms({"ours": lambda: _format(str(ours)), peer: theirs_now})
    ratio = taken["ours"] / taken[peer]
    return Figure("format: header and one slot", ratio, f"x {peer}", f"{peer}: {taken[peer]:.0f} ms", FORMAT_GOAL)


def _unlock(volume: Volume) -> None:
    with Secret.take(PASSPHRASE) as key:
        LuksHeaders(medium.read).test_key(volume.device, 0, key)


def _cryptsetup_open(volume: Volume) -> Action:
    fixed = ("cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-slot", "0")
    return command((*fixed, "--key-file", str(volume.key_file), volume.device.path))


def _argon2_raw() -> bytes:
    return argon2.low_level.hash_secret_raw(
        PASSPHRASE, bytes(32), _FULL.time, _FULL.memory_kib, _FULL.threads, 64, argon2.low_level.Type.ID
    )


def _format(path: str) -> None:
    with (
        Secret.random(64) as volume_key,
        Secret.take(PASSPHRASE) as key,
        Device.blank(path) as device,
    ):
        device.format(FormatParameters(uuid=str(uuid.uuid4())), volume_key)
        device.keyslots.add_by_volume_key(0, key, volume_key, _CHEAP_PBKDF2)
