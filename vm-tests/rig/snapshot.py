"""Save a booted guest's memory once, and wake it up for each story that is not about booting.

A story that wakes a guest pays one or two seconds instead of a boot. What it cannot see: early boot, another UUID,
credentials, kernel arguments. The saved memory belongs to one QEMU binary, one image and one tree, and is keyed so.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rig import host
from rig.cache import built, fingerprint
from rig.errors import BuildFailed, LostVM
from rig.power import Power
from rig.spec import KERNEL_ARGUMENTS, MachineSpec, Places, arguments

if TYPE_CHECKING:
    from rig.image import Image

BOOT_TIMEOUT_S = 180.0
SAVE_TIMEOUT_S = 120.0
ATTEMPTS = 2
SLEEP_S = 1
# What a first volume needs, so that no restored guest spends time on loading it.
PREPARE = "modprobe -a dm_crypt xfs ext4 xts algif_skcipher; udevadm settle; sync; echo 3 > /proc/sys/vm/drop_caches"


def base_spec(spec: MachineSpec) -> MachineSpec:
    """Return what of a spec a saved guest can have: its memory size and the tree."""
    return MachineSpec(memory_mib=spec.memory_mib, tree=spec.tree)


def incoming(spec: MachineSpec, image: Image, tree: Path | None) -> str:
    """Return where QEMU finds the saved guest (its -incoming argument), booting and saving one first if need be.

    Raises BuildFailed when a guest does not boot or cannot be saved, twice.
    """
    base = base_spec(spec)
    places = Places(Path("/"))
    binary = os.stat(host.program(host.QEMU))
    parts = [str(image.key), str(tree), str(binary.st_size), str(binary.st_mtime_ns), *KERNEL_ARGUMENTS]
    parts += [PREPARE, *arguments(base, image, tree, places, "tcg")]

    def build(work: Path) -> None:
        with host.progress("saving a booted guest (once for each tree)"):
            _save_one(base, image, tree, work / "memory.zst")

    directory = built("snapshot", fingerprint(part.encode() for part in parts), build)
    return f"exec:zstd -dc {shlex.quote(str(directory / 'memory.zst'))}"


def _save_one(spec: MachineSpec, image: Image, tree: Path | None, target: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        directory = Path(tempfile.mkdtemp(prefix="rig-snapshot-"))
        power = Power(spec, image, tree, Places(directory))
        try:
            _boot_and_save(power, target)
        except LostVM as error:
            if attempt == ATTEMPTS:
                raise BuildFailed(f"no guest could be saved: {error}") from error
        else:
            return
        finally:
            power.kill()
            shutil.rmtree(directory, ignore_errors=True)


def _boot_and_save(power: Power, target: Path) -> None:
    patience = host.patience()
    if not power.wait_ready(BOOT_TIMEOUT_S * patience):
        raise power.lost("the guest to be saved does not boot")
    for line in ("systemctl is-system-running --wait", PREPARE, f"sleep {SLEEP_S}"):
        begun_s = time.monotonic()
        request = {"argv": ["sh", "-c", line], "timeout_s": BOOT_TIMEOUT_S * patience}
        if power.answer(power.post("run", **request), BOOT_TIMEOUT_S * patience) is None:
            raise power.lost(f"the guest to be saved does not answer: {line}")
    if time.monotonic() - begun_s < SLEEP_S * 0.8:
        # Its kernel measured the processor while the host had no time for it, and now every timeout comes too early.
        raise power.lost("the clock of the guest to be saved is fast")
    power.qmp.execute("stop")
    power.qmp.execute("migrate", uri=f"exec:zstd -1 -q -f -o {shlex.quote(str(target))}")
    deadline = time.monotonic() + SAVE_TIMEOUT_S * patience
    while (status := power.qmp.execute("query-migrate").get("status")) != "completed":
        if status == "failed" or time.monotonic() > deadline:
            raise power.lost(f"saving the guest's memory: {status}")
        time.sleep(0.05)
    power.qmp.execute("quit")
    power.wait_exit(SAVE_TIMEOUT_S)  # only then has zstd been given the last byte
    _check_whole(target, deadline)


def _check_whole(target: Path, deadline: float) -> None:
    command = [host.program("zstd"), "-t", "-q", str(target)]
    while subprocess.run(command, check=False, capture_output=True).returncode != 0:
        if time.monotonic() > deadline:
            raise BuildFailed(f"{target.name} is not whole")
        time.sleep(0.1)
