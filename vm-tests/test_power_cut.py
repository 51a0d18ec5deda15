"""Power is cut after each step of the first boot, and inside format and mkfs; the next boot ends well by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from nodes import config, encrypted, node_spec
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import WriteLog, read_log, replay
from stage import Stage

from luksctl.config.documents import parse_machine_config
from luksctl.model.config import META, META_SIZE_BYTES, ByImage, Settings, VolumeSettings
from luksctl.node.node import Paths
from luksctl.reconcile.converge import look
from luksctl.reconcile.desire import desire
from luksctl.wiring import build_node

# The cheapest KDF there is: nothing here is about its cost, and each cut is followed by two formats.
CONFIG = config(encrypted("STATE", "slot: 0, nodeID: {}"), encrypted("EPHEMERAL", "slot: 0, nodeID: {}")).replace(
    "32MiB", "32KiB"
)

# Runs one stage of the boot, and after each step waits until the rig has noted how far the disk's write log got.
DRIVER = """
import json, os, sys, time
sys.path.insert(0, "/opt/luksctl")
from luksctl.node.boot import open_volume
from luksctl.node.waiting import boot_deadline
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

    def within(self, volume: str, name: str, count: int) -> list[int]:
        """Return `count` numbers of entries spread over one step."""
        index = next(i for i, step in enumerate(self.steps) if (step.volume, step.name) == (volume, name))
        before, after = self.steps[index - 1].entries, self.steps[index].entries
        inside = after - before
        return sorted({before + inside * (number + 1) // (count + 1) for number in range(count)})

    def span(self, volume: str) -> tuple[int, int]:
        """Return the entries from the format of a volume to the end of its mkfs: all torn states lie in between."""
        ends = {step.name: step.entries for step in self.steps if step.volume == volume}
        announced = next(step.entries for step in self.steps if (step.volume, step.name) == (volume, "WriteIntent"))
        return announced, ends["MakeFilesystem"]


def _drive(machine: Machine, disk: Disk, volume: str, seen: list[StepEnd]) -> None:
    run = machine.begin("python3", "/root/driver.py", volume)
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


@pytest.fixture(scope="module")
def first_boot(tmp_path_factory: pytest.TempPathFactory) -> FirstBoot:
    """Do a first boot with every write logged, and note where each step ended."""
    disk = Shelf(tmp_path_factory.mktemp("logged")).talos("logged", log_writes=True)
    seen: list[StepEnd] = []
    with Machine(node_spec(MachineSpec(disks=(disk,)), CONFIG), "first boot") as node:
        node.restore()
        node.write_file("/root/driver.py", DRIVER)
        _drive(node, disk, "STATE", seen)
        node.check("systemctl", "start", "system-state.mount")
        _drive(node, disk, "EPHEMERAL", seen)
        node.cut_power()
    return FirstBoot(disk, read_log(disk.log_path), tuple(seen))


@pytest.fixture
def stage(machine: Callable[[MachineSpec], Machine], disks: Shelf, first_boot: FirstBoot) -> Stage:
    """Return a running guest whose one disk has the layout of the first boot's."""
    disk = disks.copy(replace(first_boot.disk, path=first_boot.disk.base_path), "disk")
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    return Stage(node, disk)


def test_every_cut_of_the_first_boot_is_followed_by_a_good_one(
    first_boot: FirstBoot, stage: Stage, tmp_path: Path
) -> None:
    """After each step, and at twenty writes inside format and mkfs: both volumes are mounted, no step by hand."""
    cuts = {step.entries for step in first_boot.steps}
    for volume in ("STATE", "EPHEMERAL"):
        cuts.update(first_boot.within(volume, "FormatVolume", 5))
        cuts.update(first_boot.within(volume, "MakeFilesystem", 5))
    assert len(cuts) >= 35
    for cut in sorted(cuts):
        torn = replay(first_boot.disk.base_path, first_boot.log, cut, tmp_path / "torn.img")
        stage.show(torn)
        stage.boot()
        stage.assert_both_mounted()
        torn.unlink()


def test_torn_volumes_of_others_are_refused_untouched(first_boot: FirstBoot, tmp_path: Path) -> None:
    """The same torn images below a META that announces nothing are foreign: no step is planned, no byte changes."""
    for volume in ("STATE", "EPHEMERAL"):
        begun, finished = first_boot.span(volume)
        for cut in range(begun, finished, max(1, (finished - begun) // 40)):
            torn = Disk(replay(first_boot.disk.base_path, first_boot.log, cut, tmp_path / "torn.img"))
            partition = torn.partition(volume)
            content = torn.read(partition.offset_bytes, partition.size_bytes)
            torn.path.unlink()
            if any(content):
                _assert_refused(volume, content, tmp_path)


def _assert_refused(volume: str, content: bytes, directory: Path) -> None:
    image = directory / f"{volume}.img"
    image.write_bytes(content)
    locations = {META: ByImage(str(directory / "META.img")), volume: ByImage(str(image))}
    settings = Settings(volumes=tuple((name, VolumeSettings(place)) for name, place in locations.items()))
    node = build_node(settings, lambda _: None, Paths(run_dir=str(directory / "run")))
    (directory / "META.img").write_bytes(bytes(META_SIZE_BYTES))
    wanted = desire(volume, parse_machine_config(CONFIG.encode(), "the config"), memory_kib=1 << 20)
    found = look(wanted, settings.volume(volume), node.ports)
    assert found.plan.refusal is not None, found
    assert found.plan.steps == ()
    assert image.read_bytes() == content
