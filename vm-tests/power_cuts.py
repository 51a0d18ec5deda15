"""What must hold at every cut of a first boot: ours is gone on with by the next boot, somebody else's is left alone."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from first_boots import CONFIG, EVERY_CHANGE, ONE_STEP, FirstBoot, record_first_boot
from nodes import node_spec, status
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

from luksctl.config.documents import parse_machine_config
from luksctl.model.config import META, META_SIZE_BYTES, ByImage, Settings, VolumeSettings
from luksctl.node.node import Node, Paths
from luksctl.reconcile.converge import look
from luksctl.reconcile.desire import desire
from luksctl.wiring import build_node

LOOKS = 40
SHARE = 12


@pytest.fixture(scope="module")
def first_boot(tmp_path_factory: pytest.TempPathFactory) -> FirstBoot:
    """Return a first boot, written down."""
    return record_first_boot(tmp_path_factory.mktemp("logged"), EVERY_CHANGE if _all_cuts() else ONE_STEP)


@pytest.fixture
def stage(machine: Callable[[MachineSpec], Machine], disks: Shelf, first_boot: FirstBoot) -> Iterator[Stage]:
    """Return a running guest whose one disk has the layout of the first boot's."""
    disk = disks.copy(replace(first_boot.disk, path=first_boot.disk.base_path), "disk")
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    yield Stage(node, disk)
    node.close()  # its slot among the guests goes to the next story


def assert_every_cut_heals(first_boot: FirstBoot, volume: str, stage: Stage, directory: Path) -> None:
    """Boot after cuts of the plan that formats `volume`: both volumes are mounted, no step by hand.

    `make faults` takes all of them: after each step, and at writes inside format and mkfs.
    """
    cuts = first_boot.cuts(volume)
    assert len(cuts) >= 15
    for cut in sampled(cuts):
        with first_boot.torn(cut, directory) as torn:
            stage.show(torn.path)
        stage.boot()
        stage.assert_both_mounted()


def assert_rotation_heals(first_boot: FirstBoot, stage: Stage, directory: Path) -> None:
    """Boot after cuts between the steps of rotations: both volumes are mounted, and follow the config in STATE."""
    known = {text: parse_machine_config(text.encode(), "known") for text in (CONFIG, *first_boot.rotations)}
    cuts = first_boot.rotation_cuts()
    assert len(cuts) >= 12
    for cut in sampled(cuts):
        with first_boot.torn(cut, directory) as torn:
            stage.show(torn.path)
        stage.boot()
        stage.assert_both_mounted()
        rules = stage.machine.read_file("/system/state/config.yaml").decode()
        found = status(stage.machine)["volumes"]
        slots = {volume["volume"]: {slot["slot"] for slot in volume["slots"]} for volume in found}
        wanted = {volume: {key.slot for key in block.keys} for volume, block in known[rules].encryption}
        assert slots == wanted, stage.machine.journal("-n", "60")
        stage.machine.check("luksctl", "sync", "--dry-run")


def _all_cuts() -> bool:
    return os.environ.get("FAULTS") == "all"


def sampled(cuts: list[int]) -> list[int]:
    """Return all cuts where FAULTS=all asks for them, else a twelfth, by SEED."""
    if _all_cuts():
        return cuts
    seed = os.environ.get("SEED", "0")
    count = max(1, len(cuts) // SHARE)
    print(f"seed {seed}: {count} of {len(cuts)} cuts")
    chosen = random.Random(seed).sample(cuts, count)  # noqa: S311  # a sample of cuts is no secret
    return sorted(chosen)


def assert_torn_volumes_are_refused(first_boot: FirstBoot, volume: str, directory: Path) -> None:
    """Look at forty moments between the announcement and the end of mkfs below a META that announces nothing."""
    begun, finished = first_boot.span(volume)
    refused = 0
    for cut in range(begun, finished, max(1, (finished - begun) // LOOKS)):
        with first_boot.torn(cut, directory) as torn:
            partition = torn.partition(volume)
            content = torn.read(partition.offset_bytes, partition.size_bytes)
        if content.strip(b"\0"):  # until the first write of the format arrived, the partition is simply blank
            _assert_refused(volume, content, directory)
            refused += 1
    assert refused > LOOKS // 2


def _assert_refused(volume: str, content: bytes, directory: Path) -> None:
    image = directory / f"{volume}.img"
    image.write_bytes(content)
    (directory / "META.img").write_bytes(bytes(META_SIZE_BYTES))
    node = _node({META: str(directory / "META.img"), volume: str(image)}, directory / "run")
    wanted = desire(volume, parse_machine_config(CONFIG.encode(), "the config"), memory_kib=1 << 20)
    plan = look(wanted, node.settings.volume(volume), node.ports).plan
    assert plan.refusal is not None, plan
    assert plan.steps == ()
    assert image.read_bytes() == content


def _node(images: dict[str, str], run_dir: Path) -> Node:
    volumes = tuple((name, VolumeSettings(ByImage(path))) for name, path in images.items())
    return build_node(Settings(volumes=volumes), lambda _: None, Paths(run_dir=str(run_dir)))
