"""How fast a volume gets a new volume key, beside the stock tool with the same resilience and sectors."""

from __future__ import annotations

import os
from pathlib import Path

from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.model.config import CHEAPEST_KDF
from luksctl.model.intent import MovedSlot, ReencryptIntent, Resilience
from luksctl.model.probe import Device
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace
from tests.bench.images import PASSPHRASE, formatted
from tests.bench.measure import Figure, command, medians_ms

_SIZE_BYTES = 272 * MIB  # 256 MiB of data
_DATA_MIB = 256
_ROUNDS = 5
_SECTOR_BYTES = 4096
# Ours must reach 0.98 of its rate, so it may take 1/0.98 of its time.
_GOAL = 1 / 0.98


def offline(directory: Path) -> Figure:
    """Measure both on image files of the same size, checksum resilience, from the new keyslot to the last write."""
    ours, theirs = formatted(directory / "ours"), formatted(directory / "theirs")
    for volume in (ours, theirs):
        os.truncate(volume.device.path, _SIZE_BYTES)
    device = replace(ours.device, size_bytes=_SIZE_BYTES)
    key_file = ("--key-file", str(theirs.key_file))
    cheap = ("--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1")
    stock = ("cryptsetup", "reencrypt", "--batch-mode", "--force-offline-reencrypt", "--resilience", "checksum")
    taken = medians_ms(
        {
            "luksctl": lambda: _reencrypt(device),
            "cryptsetup": command((*stock, *key_file, *cheap, theirs.device.path)),
        },
        _ROUNDS,
    )
    rates = {name: 1000 * _DATA_MIB / ms for name, ms in taken.items()}
    told = ", ".join(f"{name}: {rate:.0f} MiB/s" for name, rate in rates.items())
    return Figure("re-encryption, offline: time by that of cryptsetup", _ratio(taken), "x", told, _GOAL)


def _ratio(taken: dict[str, float]) -> float:
    return taken["luksctl"] / taken["cryptsetup"]


def _reencrypt(device: Device) -> None:
    """Do what the steps do between the announcement and the settling, with one key."""
    headers = LuksHeaders(medium.read)
    slots = _slots(device)
    how = ReencryptIntent(
        "EPHEMERAL", "", "", "aes-xts-plain64", (slots,), 30, _SECTOR_BYTES, resilience=Resilience.CHECKSUM
    )
    with Secret.take(PASSPHRASE) as key, Secret.random(64) as volume_key:
        headers.add_new_keyslot(device, slots.new, key, volume_key, CHEAPEST_KDF, first=True)
        headers.start_reencryption(device, key, slots, how, None)
        headers.run_reencryption(device, key, how, None, lambda _done, _total: None)


def _slots(device: Device) -> MovedSlot:
    """Return from which keyslot to which: each round moves it to the other one."""
    return MovedSlot(31, 0) if 0 in LuksHeaders(medium.read).slot_digests(device, (0,)) else MovedSlot(0, 31)
