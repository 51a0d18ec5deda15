"""Power is cut after each step of sealing tpm keys anew: the other key opens, and what was begun ends well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from first_boots import DISK_MIB, DRIVER, StepEnd, drive
from nodes import CHEAP_POLICY, VOLUMES, encrypted, headers, node_spec, quick, report, status
from power_cuts import sampled
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import WriteLog, read_log, replay
from stage import Stage
from tpm_commands import extend

TPM, STATIC = "slot: 0, tpm: {}", "slot: 1, static: {passphrase: the second}"
POLICY = CHEAP_POLICY + "filesystems: {EPHEMERAL: ext4}\ntpm: {literalPCRs: true}\n"
CONFIG = quick(encrypted("STATE", TPM, STATIC) + encrypted("EPHEMERAL", TPM, STATIC) + POLICY)
OPENING_SLOTS = {"with slot 0 (tpm)", "with slot 1 (static)"}
FIRMWARE = "firmware of another version"


@dataclass(frozen=True)
class Sealed:
    """What a disk was told while the keys of both volumes were sealed anew, and where in that each step ended."""

    disk: Disk
    log: WriteLog
    steps: tuple[StepEnd, ...]


def test_a_cut_while_sealing_anew_is_followed_by_a_boot_that_ends_well(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, tmp_path: Path
) -> None:
    """Both volumes are mounted by one of their keys, and a sync makes them whole; the TPM opens them again."""
    node = machine(node_spec(MachineSpec(tpm=True), CONFIG))
    sealed = seal_anew(node, disks)
    cuts = sorted({step.entries for step in sealed.steps})
    assert len(cuts) >= 8, sealed.steps
    disk = Disk(replay(sealed.disk.base_path, sealed.log, len(sealed.log.entries), disks.directory / "disk.img"))
    node.spec = replace(node.spec, disks=(disk,))
    assert node.start() == "running"
    extend(node, 7, FIRMWARE)
    stage = Stage(node, disk)
    for cut in sampled(cuts):
        torn = replay(sealed.disk.base_path, sealed.log, cut, tmp_path / "torn.img")
        stage.show(torn)
        torn.unlink()
        ends_well(stage)


def seal_anew(node: Machine, disks: Shelf) -> Sealed:
    """Boot for the first time, change what firmware measures, and seal both keys anew; then the power goes."""
    disk = disks.talos("logged", DISK_MIB, log_writes=True)
    node.spec = replace(node.spec, disks=(disk,))
    assert node.start() == "running"
    Stage(node, disk).assert_both_mounted()
    extend(node, 7, FIRMWARE)
    node.write_file("/root/driver.py", DRIVER)
    steps: list[StepEnd] = []
    for volume in VOLUMES:
        drive(node, disk, f"sync={volume}", steps)
    node.check("sync")
    node.cut_power()
    return Sealed(disk, read_log(disk.log_path), tuple(steps))


def ends_well(stage: Stage) -> None:
    """Check a boot from what a cut left, a sync by hand, and the boot after that."""
    node = stage.machine
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    for volume in VOLUMES:
        assert report(node, volume)["opened_by"] in OPENING_SLOTS
    node.check("luksctl", "sync")
    with stage.let_go() as disk:
        before = headers(disk)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    for volume in VOLUMES:
        assert report(node, volume)["opened_by"] == "with slot 0 (tpm)"
    found = status(node)
    assert found["exitCode"] == 0
    slots = {one["volume"]: {slot["slot"] for slot in one["slots"]} for one in found["volumes"]}
    assert slots == {volume: {0, 1} for volume in VOLUMES}
    node.check("sync")
    assert headers(stage.disk) == before
