"""Volumes are reset: by the recipes of the documentation, in use, without a header, cut; nothing old is left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from first_boots import CONFIG, DISK_MIB, DRIVER, StepEnd, drive
from nodes import NODE_ID, config, encrypted, meta_facts, mounted_from, node_spec, quick, report, status
from power_cuts import sampled
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import read_log, replay
from stage import Stage

from luksctl.model.config import EPHEMERAL, META, STATE
from luksctl.model.intent import ResetIntent
from tests.sampling import everything

OLD, NEW = "slot: 0, static: {passphrase: the old one}", "slot: 2, static: {passphrase: the new one}"
FIRST = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, OLD)))
CHANGED = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, NEW)))
PLAIN = quick(config(encrypted(STATE, NODE_ID)))
STORED, SUBMITTED = "/system/state/config.yaml", "/root/config.yaml"
MARKER = "/system/ephemeral/marker"
EXIT_NEEDS_REBOOT, EXIT_MAINTENANCE = 7, 12
COPIES_BYTES = 32 * 1024
GIB = 1 << 30
NODE_DISK = "/dev/disk/by-id/virtio-disk"
JSON_AT, HEADER_BYTES, SAMPLE_BYTES = 4096, 16384, 512


@dataclass(frozen=True)
class Traces:
    """What a volume that was erased must not be found by: the salts of its header, and what its key areas held."""

    volume: str
    found: tuple[bytes, ...]


def traces_of(disk: Disk, volume: str) -> Traces:
    """Read them from the raw partition, as whoever stole the disk before would have."""
    place = disk.partition(volume)
    header = disk.read(place.offset_bytes, HEADER_BYTES)
    document = json.loads(header[JSON_AT:].partition(b"\0")[0])
    found = [document["digests"]["0"]["salt"].encode()]
    for keyslot in document["keyslots"].values():
        found.append(keyslot["kdf"]["salt"].encode())
        area = int(keyslot["area"]["offset"])
        found += [disk.read(place.offset_bytes + at, SAMPLE_BYTES) for at in (area, area + 64 * 1024)]
    return Traces(volume, tuple(found))


def left_of(disk: Disk, traces: Traces) -> list[bytes]:
    """Search the whole raw partition; return what is still there."""
    place = disk.partition(traces.volume)
    content = disk.read(place.offset_bytes, place.size_bytes)
    return [trace for trace in traces.found if trace in content]


def stage_config(node: Machine, text: str) -> None:
    """Leave a config to the next boot, though none of its keys opens EPHEMERAL as it is."""
    node.write_file(SUBMITTED, text, mode=0o600)
    node.check("luksctl", "apply-config", "--mode", "staged", "-f", SUBMITTED)


def reset_and_reboot(node: Machine, label: str) -> None:
    """Run the recipe's command, which reboots the node, and wait until it is up again."""
    node.begin("luksctl", "reset", "--system-labels-to-wipe", label, "--reboot", "--yes")
    node.wait_reboot()


def test_the_recipes_of_the_documentation(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Another key for EPHEMERAL, a new STATE, and EPHEMERAL in plain: each by its reset, with what stays staying."""
    disk = disks.talos(size_mib=256)
    node = machine(node_spec(MachineSpec(disks=(disk,), root_upper="disk"), None))
    node.start()
    node.write_file(SUBMITTED, FIRST, mode=0o600)
    node.check("luksctl", "apply-config", "--insecure", "-f", SUBMITTED)
    gives_ephemeral_another_key(node, disk)
    makes_state_anew(node, disk)
    makes_ephemeral_plain(node, disk)


def gives_ephemeral_another_key(node: Machine, disk: Disk) -> None:
    """Check that a busy EPHEMERAL is erased across the reboot, and comes up with the key that was staged."""
    node.write_file(MARKER, "what is to go")
    node.check("sync")
    before = traces_of(disk, EPHEMERAL)
    assert left_of(disk, before) == list(before.found)
    stage_config(node, CHANGED)
    node.begin("sh", "-c", "cd /system/ephemeral && exec sleep 10000")
    node.wait_until("pgrep -f 'sleep 10000'")
    dry = json.loads(node.check("luksctl", "reset", "--dry-run", "--json", "--system-labels-to-wipe", EPHEMERAL))
    assert "the mount of" in dry["volumes"][0]["inUseBy"]
    reset_and_reboot(node, EPHEMERAL)
    assert mounted_from(node, "/system/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    assert node.run("test", "-e", MARKER).status != 0
    assert report(node, EPHEMERAL)["slot"] is None  # formatted in this boot
    assert [slot["slot"] for slot in status(node)["volumes"][1]["slots"]] == [2]
    node.check("sync")
    assert left_of(disk, before) == []
    assert "erasure record" in node.journal("-b", "-u", "luksctl-open@*")
    (record, *_) = node.check("sh", "-c", "cat /var/lib/luksctl/erasures/*EPHEMERAL.json").split("\0")
    assert json.loads(record.partition("}\n{")[0] + ("}" if "}\n{" in record else ""))["serial"] == "disk"


def makes_state_anew(node: Machine, disk: Disk) -> None:
    """Check that the node waits for a config without a key of STATE in META, and takes EPHEMERAL up again with one."""
    node.write_file(MARKER, "what is to stay")
    node.check("sync")
    before = traces_of(disk, STATE)
    reset_and_reboot(node, STATE)
    assert status(node)["exitCode"] == EXIT_MAINTENANCE
    assert "STATE encryption config" not in node.check("luksctl", "meta", "list")
    node.write_file(SUBMITTED, CHANGED, mode=0o600)
    node.check("luksctl", "apply-config", "--insecure", "-f", SUBMITTED)
    assert node.read_file(MARKER) == b"what is to stay"
    node.check("sync")
    assert left_of(disk, before) == []
    assert node.read_file(STORED) == CHANGED.encode()


def makes_ephemeral_plain(node: Machine, disk: Disk) -> None:
    """Check that nothing insists on an encrypted volume after its reset, where the config asks for none."""
    node.check("sync")
    before = traces_of(disk, EPHEMERAL)
    stage_config(node, PLAIN)
    reset_and_reboot(node, EPHEMERAL)
    assert mounted_from(node, "/system/ephemeral").startswith("/dev/vd")
    assert report(node, EPHEMERAL)["state"] == "plain"
    node.check("sync")
    assert left_of(disk, before) == []


def test_reset_of_what_is_broken_or_in_use(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """In use without a reboot; with its header destroyed; idle: each is erased as far as it can be, then wholly."""
    disk = disks.talos(size_mib=256)
    node = machine(node_spec(MachineSpec(disks=(disk,)), FIRST))
    node.restore()
    stage = Stage(node, disk)
    assert stage.boot().status == 0
    in_use_without_a_reboot(stage)
    without_a_header(stage)
    graceful_needs_no_reboot(stage)
    wipes_only_what_no_volume_uses(stage, disks)


def in_use_without_a_reboot(stage: Stage) -> None:
    """Check that its header goes at once, that it stays mounted until the boot, and that the boot ends the reset."""
    node, disk = stage.machine, stage.disk
    node.write_file(MARKER, "still mounted")
    node.check("sync")
    before = traces_of(disk, EPHEMERAL)
    holding = node.begin("sh", "-c", "cd /system/ephemeral && exec sleep 10000")
    node.wait_until("pgrep -f 'sleep 10000'")
    done = node.run("luksctl", "reset", "--system-labels-to-wipe", EPHEMERAL, "--yes", "--json", "--timeout", "20s")
    assert done.status == EXIT_NEEDS_REBOOT, done
    assert "is used by sleep" in done.stderr
    (volume,) = json.loads(done.stdout)["volumes"]
    assert volume["record"]["complete"] is False
    assert left_of(disk, before) == []
    assert node.read_file(MARKER) == b"still mounted"
    assert status(node)["volumes"][1]["observed"] == "Erasing"
    node.check("sh", "-c", "echo more >/system/ephemeral/more && sync")

    node.check("pkill", "-f", "sleep 10000")
    node.finish(holding)
    with stage.let_go():
        pass
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    assert node.run("test", "-e", MARKER).status != 0
    assert status(node)["meta"]["intents"] == []


def without_a_header(stage: Stage) -> None:
    """Check that a volume of which both copies are gone, which nothing opens any more, is erased and comes up new."""
    node = stage.machine
    with stage.let_go() as disk:
        before = traces_of(disk, EPHEMERAL)
        disk.write(disk.partition(EPHEMERAL).offset_bytes, bytes(COPIES_BYTES))
    assert stage.boot().status != 0
    assert report(node, EPHEMERAL)["exit_code"] == 3
    node.check("luksctl", "reset", "--system-labels-to-wipe", EPHEMERAL, "--yes")
    assert left_of(stage.disk, before) == []
    node.check("systemctl", "reset-failed")
    assert stage.boot().status == 0
    stage.assert_both_mounted()


def graceful_needs_no_reboot(stage: Stage) -> None:
    """Check that an EPHEMERAL that nobody uses is unmounted, closed, erased and blank; the next mount formats it."""
    node = stage.machine
    node.write_file(MARKER, "idle")
    node.check("luksctl", "reset", "--system-labels-to-wipe", EPHEMERAL, "--yes")
    assert node.run("test", "-e", "/dev/mapper/luks2-EPHEMERAL").status != 0
    node.check("sync")
    place = stage.disk.partition(EPHEMERAL)
    assert stage.disk.read(place.offset_bytes, 17 << 20).count(0) == 17 << 20
    node.check("systemctl", "start", "system-ephemeral.mount")
    stage.assert_both_mounted()
    assert node.run("test", "-e", MARKER).status != 0


def wipes_only_what_no_volume_uses(stage: Stage, disks: Shelf) -> None:
    """Check that the disk of the volumes and a mounted one are refused, and that a spare one is blank afterwards."""
    node, spare = stage.machine, disks.partitioned([("data", "")], "spare", size_mib=64)
    node.plug(spare)
    name = "/dev/disk/by-id/virtio-spare"
    node.check("sh", "-c", f"mkfs.ext4 -q {name}-part1 && mkdir -p /mnt/spare && mount {name}-part1 /mnt/spare")
    for device, why in ((name, "in use by the mount of"), ("/dev/disk/by-id/virtio-disk-part1", "META of this node")):
        refused = node.run("luksctl", "wipe", "disk", device, "--yes")
        assert (refused.status, why in refused.stderr) == (3, True), refused
    node.check("umount", "/mnt/spare")
    done = json.loads(node.check("luksctl", "wipe", "disk", name, "--yes", "--json"))
    assert done["disks"][0]["serial"] == "spare"
    assert done["disks"][0]["discard"] == "done"
    assert node.run("test", "-e", f"{name}-part1").status != 0
    assert spare.read(0, 17 << 20).count(0) == 17 << 20


@pytest.mark.timeout(7200 if os.environ.get("FAULTS") == "all" else 1800)
def test_a_cut_reset_is_ended_by_the_next_boot(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, tmp_path: Path
) -> None:
    """Power is cut after steps of a reset of both volumes, and inside them: the next boot ends it, and formats both."""
    (tmp_path / "logged").mkdir()
    logged = Shelf(tmp_path / "logged").talos(size_mib=DISK_MIB, log_writes=True)
    seen: list[StepEnd] = []
    with Machine(node_spec(MachineSpec(disks=(logged,)), CONFIG), "a reset") as first:
        first.restore()
        first.write_file("/root/driver.py", DRIVER)
        stage = Stage(first, logged)
        assert stage.boot().status == 0
        first.write_file(MARKER, "from before")
        with stage.let_go():
            before = [traces_of(logged, volume) for volume in (STATE, EPHEMERAL)]
        begun = len(read_log(logged.log_path).entries)
        drive(first, logged, f"reset={STATE},{EPHEMERAL}", seen)
        first.cut_power()
    log = read_log(logged.log_path)
    before_tag9, after_tag9 = ["AnnounceReset", "EraseHeader", "EraseEnds", "Discard"], ["ConcludeReset"]
    of_ephemeral, of_state = (before_tag9 + after_tag9, [*before_tag9, "WriteStateEncryption", *after_tag9])
    assert [step.name for step in seen] == of_ephemeral + of_state
    ends = sorted({step.entries for step in seen})
    inside = [(start + end) // 2 for start, end in zip([begun, *ends], ends, strict=False)]
    disk = Disk(disks.directory / "cut.img", "disk")
    replay(logged.base_path, log, begun, disk.path)
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    stage = Stage(node, disk)
    for cut in sampled(sorted({*ends, *inside})):
        stage.show(replay(logged.base_path, log, cut, tmp_path / "torn.img"))
        stage.boot()
        stage.assert_both_mounted()
        node.check("sync")
        assert status(node)["meta"]["intents"] == []
        if cut >= ends[0]:
            assert [left_of(disk, traces) for traces in before] == [[], []], cut
            assert node.run("test", "-e", MARKER).status != 0


def overwritten_bytes(disk: Disk) -> int:
    """Return how far META says that the overwriting of EPHEMERAL came; read from the disk while the guest runs."""
    place = disk.partition(META)
    intent = meta_facts(disk.read(place.offset_bytes, place.size_bytes)).record.intent(EPHEMERAL)
    return intent.position_bytes if isinstance(intent, ResetIntent) else 0


@pytest.mark.skipif(not everything(), reason="it overwrites gigabytes; make faults does")
def test_overwriting_goes_on_after_a_power_cut(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Cut after a gigabyte, the next boot overwrites the rest, and then formats the volume and mounts it."""
    disk = disks.talos(size_mib=2600)
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    stage = Stage(node, disk)
    assert stage.boot().status == 0
    node.check("systemctl", "stop", "system-ephemeral.mount")
    place = disk.partition(EPHEMERAL)
    marks = [place.offset_bytes + at for at in (GIB // 2, place.size_bytes - GIB // 4)]
    for at in marks:
        node.check("dd", "if=/dev/urandom", f"of={NODE_DISK}", "bs=1M", "count=1", f"seek={at}", "oflag=seek_bytes")
    node.check("sync")
    assert all(disk.read(at, GIB // 1024).strip(b"\0") for at in marks)
    node.begin("luksctl", "reset", "--system-labels-to-wipe", EPHEMERAL, "--zero", "--yes", timeout_s=300)
    deadline_s = time.monotonic() + 300
    while overwritten_bytes(disk) < GIB:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    node.cut_power()
    assert GIB <= overwritten_bytes(disk) < place.size_bytes
    node.start()
    node.wait_for_unit("system-ephemeral.mount", timeout_s=300)
    stage.assert_both_mounted()
    assert status(node)["meta"]["intents"] == []
    assert not any(disk.read(at, GIB // 1024).strip(b"\0") for at in marks)
