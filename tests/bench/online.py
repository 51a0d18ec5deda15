"""How fast mounted volumes get new volume keys in a guest, beside the stock tool in the same guest.

Both are watched from outside, by the header copy that says how far they are: what the emulated processor needs to start
a program is not what is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from luksctl.model.config import EPHEMERAL, META, STATE
from luksctl.units import MIB
from tests.bench.measure import ROOT, Figure

if TYPE_CHECKING:
    from rig.disk import Disk
    from rig.machine import Machine

_DATA_MIB = 384
_HEADER_MIB = 16
_HOTZONE_MIB = 16
_ROUNDS = 3
# The first and the last hot zones are not counted.
_EDGE_BYTES = 2 * _HOTZONE_MIB * MIB
_LOOK_EVERY_S = 0.02
_LONGEST_S = 600.0
_GOAL = 1 / 0.98
# Left to itself, the library takes 512 on a disk that knows no larger ones, and what is compared has to be equal.
_SECTOR_BYTES = 4096
_STOCK, _STOCK_PLACE, _KEY_FILE = "STOCK", "/dev/disk/by-partlabel/STOCK", "/run/stock.key"
_CHEAP = "--pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 32 --pbkdf-parallel 1"
_MAKE_STOCK = f"""
umask 077; printf stock >{_KEY_FILE}
cryptsetup luksFormat --batch-mode --key-file {_KEY_FILE} {_CHEAP} --sector-size {_SECTOR_BYTES} {_STOCK_PLACE} &&
cryptsetup open --key-file {_KEY_FILE} {_STOCK_PLACE} stock && mkfs.ext4 -q /dev/mapper/stock &&
mkdir -p /stock && mount /dev/mapper/stock /stock
"""
_RENEW_STOCK = (
    f"cryptsetup reencrypt --batch-mode --active-name stock --key-file {_KEY_FILE} {_CHEAP} --resilience checksum "
    f"--hotzone-size {_HOTZONE_MIB}M {_STOCK_PLACE}"
)


def online(_: Path) -> Figure:
    """Measure the hot zones of mounted ext4 volumes of one size, checksum resilience, without any other load."""
    sys.path.insert(0, str(ROOT / "vm-tests"))
    import tempfile  # noqa: PLC0415  # the rig is only asked for here

    from nodes import NODE_ID, config, encrypted, node_spec, quick  # noqa: PLC0415
    from rig.disk import Shelf  # noqa: PLC0415
    from rig.machine import Machine  # noqa: PLC0415
    from rig.spec import MachineSpec  # noqa: PLC0415

    size = f"{_DATA_MIB + _HEADER_MIB}M"
    measured = encrypted(EPHEMERAL, NODE_ID) + f"  blockSize: {_SECTOR_BYTES}\n"
    text = quick(config(encrypted(STATE, NODE_ID), measured)) + "filesystems: {EPHEMERAL: ext4}\n"
    with tempfile.TemporaryDirectory(prefix="luksctl-bench-") as directory:
        partitions = [(META, "1M"), (STATE, "100M"), (EPHEMERAL, size), (_STOCK, size)]
        disk = Shelf(Path(directory)).partitioned(partitions, size_mib=2 * (_DATA_MIB + _HEADER_MIB) + 112)
        with Machine(node_spec(MachineSpec(disks=(disk,)), text), "bench") as node:
            node.start()
            node.check("sh", "-c", _MAKE_STOCK)
            rates = _rates(node, disk)
    told = ", ".join(f"{name}: {rate:.1f} MiB/s" for name, rate in rates.items())
    ratio = rates["cryptsetup"] / rates["luksctl"]
    return Figure("re-encryption, online in a guest: time by that of cryptsetup", ratio, "x", told, _GOAL)


def _rates(node: Machine, disk: Disk) -> dict[str, float]:
    """Return the median rate of each in MiB/s, taken in turn."""
    from progress import done_bytes, wait_until_ended  # noqa: PLC0415  # as above

    found: dict[str, list[float]] = {"luksctl": [], "cryptsetup": []}
    for _ in range(_ROUNDS):
        begun = node.begin("luksctl", "reencrypt", EPHEMERAL, "--no-wait", timeout_s=_LONGEST_S)
        found["luksctl"].append(_rate(lambda: done_bytes(disk, EPHEMERAL)))
        node.finish(begun)
        wait_until_ended(disk)
        begun = node.begin("sh", "-c", _RENEW_STOCK, timeout_s=_LONGEST_S)
        found["cryptsetup"].append(_rate(lambda: done_bytes(disk, _STOCK)))
        result = begun.wait()
        if result.status != 0:
            raise RuntimeError(str(result))
    return {name: median(rates) for name, rates in found.items()}


def _rate(done: Callable[[], int]) -> float:
    """Return the rate in MiB/s between the first hot zones and the last ones."""
    end_s = time.monotonic() + _LONGEST_S
    begun: tuple[float, int] | None = None
    while time.monotonic() < end_s:
        now, bytes_done = time.monotonic(), done()
        if begun is None and bytes_done >= _EDGE_BYTES:
            begun = now, bytes_done
        if begun is not None and bytes_done >= _DATA_MIB * MIB - _EDGE_BYTES:
            return (bytes_done - begun[1]) / MIB / (now - begun[0])
        time.sleep(_LOOK_EVERY_S)
    raise RuntimeError(f"not done in {_LONGEST_S:g} s")
