"""How fast a volume gets a new volume key, and how long a cut delays the next boot, beside the stock tool.

Both with the same resilience and sectors.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from statistics import median

from luksctl.cryptsetup.device import Device as LuksDevice
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.cryptsetup.reencryption import ReencryptStatus, parameters_of
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
_RECOVERIES = 7
_HOTZONE_BYTES = 32 * MIB
# A kill misses a hot zone only between two of them.
_MOST_KILLS = 100


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


def recovery(directory: Path) -> Figure:
    """Measure the mending of one torn hot zone of 32 MiB, as a boot does it before the mount; one cheap KDF each."""
    volume = formatted(directory / "torn")
    os.truncate(volume.device.path, _SIZE_BYTES)
    device = replace(volume.device, size_bytes=_SIZE_BYTES)
    how = _torn(device)
    copy = directory / "copy"
    stock = ("cryptsetup", "repair", "--batch-mode", "--key-file", str(volume.key_file), str(copy))
    taken: dict[str, list[float]] = {"luksctl": [], "cryptsetup": []}
    for _ in range(_RECOVERIES):
        for name, mend in (("luksctl", lambda: _recover(copy, how)), ("cryptsetup", command(stock))):
            shutil.copyfile(device.path, copy)
            begun = time.perf_counter()
            mend()
            taken[name].append((time.perf_counter() - begun) * 1000)
            if _status(copy) is ReencryptStatus.CRASH:
                raise RuntimeError(f"{name} mended nothing")
    medians = {name: median(each) for name, each in taken.items()}
    told = ", ".join(f"{name}: {ms:.0f} ms" for name, ms in medians.items())
    return Figure("re-encryption, recovery after a cut: time by that of cryptsetup", _ratio(medians), "x", told, _GOAL)


def _torn(device: Device) -> ReencryptIntent:
    """Re-encrypt until a process that does it was killed inside a hot zone; return how it was begun."""
    headers, slots = LuksHeaders(medium.read), _slots(device)
    how = replace(_how(slots), hotzone_bytes=_HOTZONE_BYTES)
    with Secret.take(PASSPHRASE) as key, Secret.random(64) as volume_key:
        headers.add_new_keyslot(device, slots.new, key, volume_key, CHEAPEST_KDF, first=True)
        headers.start_reencryption(device, key, slots, how, None)
        for _ in range(_MOST_KILLS):
            process = os.fork()
            if process == 0:
                with Secret.take(PASSPHRASE) as own:  # no child has its parent's secrets
                    headers.run_reencryption(device, own, how, None, lambda _done, _total: None)
                os._exit(0)
            time.sleep(random.uniform(0.01, 0.2))  # noqa: S311  # when a process is killed is no secret
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            if _status(Path(device.path)) is ReencryptStatus.CRASH:
                return how
    raise RuntimeError("no kill hit a hot zone")


def _recover(path: Path, how: ReencryptIntent) -> None:
    with Secret.take(PASSPHRASE) as key, LuksDevice.open(str(path)) as luks:
        luks.reencryption.recover(parameters_of(how), key)


def _status(path: Path) -> ReencryptStatus:
    with LuksDevice.open(str(path)) as luks:
        return luks.reencryption.state().status


def _how(slots: MovedSlot) -> ReencryptIntent:
    return ReencryptIntent(
        "EPHEMERAL", "", "", "aes-xts-plain64", (slots,), 30, _SECTOR_BYTES, resilience=Resilience.CHECKSUM
    )


def _ratio(taken: dict[str, float]) -> float:
    return taken["luksctl"] / taken["cryptsetup"]


def _reencrypt(device: Device) -> None:
    """Do what the steps do between the announcement and the settling, with one key."""
    headers = LuksHeaders(medium.read)
    slots = _slots(device)
    how = _how(slots)
    with Secret.take(PASSPHRASE) as key, Secret.random(64) as volume_key:
        headers.add_new_keyslot(device, slots.new, key, volume_key, CHEAPEST_KDF, first=True)
        headers.start_reencryption(device, key, slots, how, None)
        headers.run_reencryption(device, key, how, None, lambda _done, _total: None)


def _slots(device: Device) -> MovedSlot:
    """Return from which keyslot to which: each round moves it to the other one."""
    return MovedSlot(31, 0) if 0 in LuksHeaders(medium.read).slot_digests(device, (0,)) else MovedSlot(0, 31)
