"""A first boot and a rotation, every write of the disk written down, and where in that log each step ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodes import config, encrypted, node_spec
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import WriteLog, read_log, replay


# The cheapest KDF there is: nothing here is about its cost, and each cut is followed by a format. One filesystem of
# each kind, on a small disk: every cut is an image of its own.
def cheapest(state: tuple[str, ...], ephemeral: tuple[str, ...]) -> str:
    """Return a config with these keys."""
    text = config(encrypted("STATE", *state), encrypted("EPHEMERAL", *ephemeral))
    return text.replace("32MiB", "32KiB").replace("kdf:", "filesystems: {EPHEMERAL: ext4}\nkdf:")


A, B = "slot: 0, nodeID: {}", "slot: 1, static: {passphrase: the second}"
A_AGAIN, A_IN_B, LAST = (
    f"slot: {slot}, static: {{passphrase: {words}}}" for slot, words in ((0, "a"), (1, "a"), (1, "c"))
)
CONFIG = cheapest((A,), (A,))
DISK_MIB = 192

# The only key of STATE is replaced in its slot; EPHEMERAL's is replaced by one in another slot.
ONE_STEP = (cheapest(("slot: 0, static: {passphrase: rotated}",), ("slot: 1, nodeID: {}",)),)
# Add, remove, add in the old slot, change in place while the other one goes, replace the only key.
EVERY_CHANGE = tuple(cheapest(keys, keys) for keys in ((A, B), (B,), (B, A_AGAIN), (A_IN_B,), (LAST,)))
ROTATED_PATH = "/root/rotated.yaml"

# Runs one stage of the boot, applies a config, syncs a volume, gives it a new volume key or resets some, and after each
# step waits until the rig has noted how far the disk's write log got.
DRIVER = """
import json, os, sys, time
sys.path.insert(0, "/opt/luksctl")
from luksctl.config.documents import parse_machine_config
from luksctl.node.apply_config import apply_config
from luksctl.model.intent import EraseMethod
from luksctl.node.boot import open_volume
from luksctl.node.reencrypt import Options, begin, go_on
from luksctl.node.reset import announce as announce_reset, erase_announced, look_at
from luksctl.node.sync import sync
from luksctl.node.waiting import boot_deadline
from luksctl.secret import Secret
from luksctl.wiring import build_node, read_settings

os.makedirs("/run/steps", exist_ok=True)
steps = 0
def announce(done):
    global steps
    path = f"/run/steps/{steps}"
    steps += 1
    with open(path + ".new", "w") as file:
        json.dump([done.step.volume, type(done.step).__name__], file)
    os.rename(path + ".new", path)
    while os.path.exists(path):
        time.sleep(0.02)

node = build_node(read_settings(), announce)
try:
    if sys.argv[1].startswith("/"):
        with open(sys.argv[1], "rb") as text:
            apply_config(node, parse_machine_config(text.read(), sys.argv[1]), insecure=False)
    elif sys.argv[1].startswith("reset="):
        labels = sys.argv[1].removeprefix("reset=").split(",")
        announce_reset(node, look_at(node, labels, EraseMethod.FAST, named=True))
        erase_announced(node)
    elif sys.argv[1].startswith("sync="):
        (synced,) = sync(node, (sys.argv[1].removeprefix("sync="),))
        assert synced.in_sync, synced
    elif sys.argv[1].startswith("reencrypt="):
        volume, recovery_key = sys.argv[1].removeprefix("reencrypt=").split(":")
        with open(recovery_key, "rb") as text:
            key = text.read().strip()
        begin(node, volume, Options(), lambda held: Secret.take(key), lambda place, made: None)
        go_on(node, volume)
    else:
        open_volume(node, sys.argv[1], boot_deadline(node))
finally:
    open("/run/steps/end", "w").close()
"""


@dataclass(frozen=True)
class StepEnd:
    """A step of the first boot, and how many entries the write log had when it was done."""

    volume: str
    name: str
    entries: int


@dataclass(frozen=True)
class FirstBoot:
    """One first boot, written down: where each step ended in the log of all writes."""

    disk: Disk
    log: WriteLog
    steps: tuple[StepEnd, ...]
    rotations: tuple[str, ...]
    rotating: tuple[StepEnd, ...]

    def rotation_cuts(self) -> list[int]:
        """Return where to cut: after each step of the rotations that wrote something."""
        return sorted({step.entries for step in self.rotating})

    def within(self, volume: str, name: str, count: int) -> list[int]:
        """Return `count` numbers of entries spread over one step."""
        index = next(i for i, step in enumerate(self.steps) if (step.volume, step.name) == (volume, name))
        before, after = self.steps[index - 1].entries, self.steps[index].entries
        inside = after - before
        return sorted({before + inside * (number + 1) // (count + 1) for number in range(count)})

    def cuts(self, volume: str) -> list[int]:
        """Return where to cut: after each step of a volume's plan, and at five writes each inside format and mkfs."""
        ends = {step.entries for step in self.steps if step.volume == volume}
        inside = self.within(volume, "FormatVolume", 5) + self.within(volume, "MakeFilesystem", 5)
        return sorted(ends | set(inside))

    @contextmanager
    def torn(self, cut: int, directory: Path) -> Iterator[Disk]:
        """Give the disk as it was after `cut` entries of the log."""
        disk = Disk(replay(self.disk.base_path, self.log, cut, directory / f"torn-{cut}.img"))
        try:
            yield disk
        finally:
            disk.path.unlink()

    def span(self, volume: str) -> tuple[int, int]:
        """Return the entries from the format of a volume to the end of its mkfs: all torn states lie in between."""
        ends = {step.name: step.entries for step in self.steps if step.volume == volume}
        announced = next(step.entries for step in self.steps if (step.volume, step.name) == (volume, "WriteIntent"))
        return announced, ends["MakeFilesystem"]


def drive(machine: Machine, disk: Disk, what: str, seen: list[StepEnd]) -> None:
    """Do one thing of DRIVER in the guest, and note where each of its steps ended in the write log."""
    run = machine.begin("python3", "/root/driver.py", what)
    number = 0
    while True:
        found = machine.run(
            "sh",
            "-c",
            f"until [ -e /run/steps/{number} ] || [ -e /run/steps/end ]; do sleep 0.1; done; cat /run/steps/{number}",
        )
        if found.status != 0:
            break
        name = json.loads(found.stdout)
        seen.append(StepEnd(name[0], name[1], len(read_log(disk.log_path).entries)))
        machine.check("rm", f"/run/steps/{number}")
        number += 1
    machine.check("rm", "/run/steps/end")
    result = run.wait()
    assert result.status == 0, result


def record_first_boot(directory: Path, rotations: tuple[str, ...]) -> FirstBoot:
    """Do a first boot and then the rotations with every write logged, and note where each step ended."""
    disk = Shelf(directory).talos("logged", DISK_MIB, log_writes=True)
    seen: list[StepEnd] = []
    rotating: list[StepEnd] = []
    with Machine(node_spec(MachineSpec(disks=(disk,)), CONFIG), "first boot") as node:
        node.restore()
        node.write_file("/root/driver.py", DRIVER)
        drive(node, disk, "STATE", seen)
        node.check("systemctl", "start", "system-state.mount")
        drive(node, disk, "EPHEMERAL", seen)
        node.check("systemctl", "start", "system-ephemeral.mount")
        for text in rotations:
            node.write_file(ROTATED_PATH, text)
            drive(node, disk, ROTATED_PATH, rotating)
        node.cut_power()
    return FirstBoot(disk, read_log(disk.log_path), tuple(seen), rotations, tuple(rotating))
