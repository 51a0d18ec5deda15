"""A plain volume is encrypted where it is, and decrypted again: what is on it stays, whatever happens to the power.

The xfs is asked for by name, and the power really goes; the ext4 follows its config alone, and the whole run is written
down: power cuts are moments of that log, put under a running guest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nodes import NODE_ID, config, encrypted, luksctl_journal, mounted_from, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import read_log, replay
from stage import Stage

from luksctl.model.config import EPHEMERAL, STATE
from tests.sampling import everything

KEY = "slot: 0, static: {passphrase: the one}"
PLAIN = quick(config(encrypted(STATE, NODE_ID)))
ENCRYPTED = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, KEY, "slot: 3, nodeID: {}")))
BY_CONFIG = "filesystems: {EPHEMERAL: ext4}\ninPlace: true\n"
SUBMITTED, MOUNTED, FILES = "/root/config.yaml", "/system/ephemeral", "/system/ephemeral/files"
UNIT = f"luksctl-reencrypt@{EPHEMERAL}.service"
MAPPED, PARTITION = "/dev/mapper/luks2-EPHEMERAL", "/dev/disk/by-partlabel/EPHEMERAL"
# xfsprogs make none below 300 MiB; 32 MiB behind it stay free, and META, STATE and the GPT are there as well.
XFS_DISK_MIB, EXT4_DISK_MIB = 448, 224
# How much the kernel has as encrypted when power is cut, in sectors of the mapping: two hot zones or more.
CUT_AT_SECTORS = 50_000
EXIT_NEEDS_REBOOT = 7
# Moments at which power is cut: so many parts of the log of each way.
CUTS = 12
_FILL = f"""
mkdir -p {FILES}
number=0
until [ "$(df --output=pcent {MOUNTED} | tail -n 1 | tr -d ' %')" -ge $1 ]; do
    number=$((number + 1))
    dd if=/dev/urandom of={FILES}/$number bs=1M count=8 status=none || exit 1
done
sync
"""


def fill(node: Machine, percent: int) -> None:
    """Write files until the filesystem is as full as that."""
    node.check("sh", "-c", _FILL, "sh", str(percent))


def digest(node: Machine) -> str:
    """Return a checksum over all files, as the device has them."""
    node.check("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")
    sums = node.check("sh", "-c", f"cd {FILES} && md5sum *")
    assert sums, "no files"
    return hashlib.sha256(sums.encode()).hexdigest()


def volume_of(node: Machine) -> dict[str, Any]:
    """Return what status says of EPHEMERAL."""
    found: dict[str, Any] = status(node)["volumes"][1]
    return found


def apply(node: Machine, text: str, *words: str) -> str:
    """Apply a config; return all that is said."""
    node.write_file(SUBMITTED, text, mode=0o600)
    done = node.run("luksctl", "apply-config", "-f", SUBMITTED, *words)
    assert done.status == 0, done
    return done.stdout + done.stderr


def wait_until_encrypted(node: Machine) -> None:
    """Wait until the service has ended, and check that nothing is announced, and that every key opens its keyslot."""
    node.wait_for_unit(UNIT, "inactive", timeout_s=300)
    told = status(node)
    assert told["meta"]["intents"] == [], luksctl_journal(node)
    volume = told["volumes"][1]
    assert {slot["slot"]: slot["kind"] for slot in volume["slots"]} == {0: "static", 3: "nodeID"}
    assert volume["reencryption"] is None
    node.check("luksctl", "check", EPHEMERAL)
    assert mounted_from(node, MOUNTED) == MAPPED


def wait_until_plain(stage: Stage) -> None:
    """Wait until the service has ended, boot, and check that no header is left to anybody."""
    node = stage.machine
    node.wait_for_unit(UNIT, "inactive", timeout_s=300)
    with stage.let_go():
        pass
    assert stage.boot().status == 0, node.journal("-n", "60")
    assert mounted_from(node, MOUNTED).startswith("/dev/vd")
    assert report(node, EPHEMERAL)["state"] == "plain"
    assert status(node)["meta"]["intents"] == []
    assert node.run("sh", "-c", f"blkid -p {PARTITION} | grep -q LUKS").status != 0
    assert "header" not in node.check("ls", "/system/state")


def test_a_plain_xfs_is_encrypted_where_it_is(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Asked for by name, with power cuts before and on the way: each boot mounts it with the same files, and goes on.

    The first cut leaves an xfs whose log has what its files need.
    """
    disk = disks.talos(size_mib=XFS_DISK_MIB)
    node = machine(node_spec(MachineSpec(disks=(disk,)), PLAIN))
    node.restore()
    stage = Stage(node, disk)
    assert stage.boot().status == 0
    fill(node, 25)
    said = apply(node, ENCRYPTED)
    assert f"luksctl encrypt {EPHEMERAL} --in-place" in said
    done = node.run("luksctl", "encrypt", EPHEMERAL, "--in-place", "--yes")
    assert done.status == EXIT_NEEDS_REBOOT, done
    before = digest(node)
    node.check("sh", "-c", f"cp {FILES}/1 {FILES}/late && sync -f {FILES} && rm {FILES}/late && sync -f {FILES}")
    node.cut_power()
    node.start(until="agent")
    node.wait_until("dmesg | grep -q 'XFS (vd.*): Starting recovery'")
    is_cut_while_it_is_encrypted(node)
    node.restore()
    assert stage.boot().status == 0, node.journal("-n", "60")
    stage.assert_both_mounted()
    assert digest(node) == before
    wait_until_encrypted(node)
    assert digest(node) == before
    if everything():
        is_decrypted_by_name(stage, before)


def is_decrypted_by_name(stage: Stage, before: str) -> None:
    """Check that a config without keys alone leaves it closed and untouched, and that the verb decrypts it then."""
    node = stage.machine
    apply(node, PLAIN, "--mode", "staged")
    node.reboot()
    assert mounted_from(node, MOUNTED) == ""
    assert f"luksctl decrypt {EPHEMERAL}" in json.dumps(report(node, EPHEMERAL))
    done = node.run("luksctl", "decrypt", EPHEMERAL, "--yes", timeout_s=300)
    assert done.status == 0, done
    assert mounted_from(node, MOUNTED) == MAPPED
    assert digest(node) == before
    wait_until_plain(stage)
    assert digest(node) == before


def is_cut_while_it_is_encrypted(node: Machine) -> None:
    """Check that it is mounted while it is encrypted, and cut the power when some of it is."""
    node.wait_for_unit("system-ephemeral.mount")
    assert mounted_from(node, MOUNTED) == MAPPED
    done = "dmsetup table luks2-EPHEMERAL | awk '$3 == \"crypt\" { sum += $2 } END { print sum + 0 }'"
    node.wait_until(f'[ "$({done})" -gt {CUT_AT_SECTORS} ]', timeout_s=120)
    node.cut_power()


@dataclass(frozen=True)
class Way:
    """One way there or back, as the log has it: from its first entry to its last, and what the files are."""

    begun: int
    ended: int
    files: str
    encrypts: bool

    def cuts(self) -> list[tuple[int, Way]]:
        """Return moments of it."""
        return [(self.begun + (self.ended - self.begun) * part // CUTS, self) for part in range(CUTS)]


@pytest.mark.timeout(7200 if everything() else 1800)
def test_an_ext4_follows_its_config_there_and_back(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, tmp_path: Path
) -> None:
    """Nearly full, with room behind it; then with none; and again after power cuts at moments of the whole run."""
    (tmp_path / "logged").mkdir()
    logged = Shelf(tmp_path / "logged").talos(size_mib=EXT4_DISK_MIB, log_writes=True)
    node = machine(node_spec(MachineSpec(disks=(logged,)), PLAIN + BY_CONFIG))
    node.restore()
    stage = Stage(node, logged)
    assert stage.boot().status == 0
    fill(node, 95)
    asks_for_encryption(node)
    ways = [is_encrypted(stage, digest(node)), is_decrypted(stage)]
    if not everything():
        return
    ways.append(is_encrypted(stage, has_to_make_room(stage)))
    node.cut_power()
    node.close()
    heals_after_cuts(machine, disks, logged, [cut for way in ways for cut in way.cuts()])


def entries(disk: Disk) -> int:
    """Return how long the log is."""
    return len(read_log(disk.log_path).entries)


def asks_for_encryption(node: Machine) -> None:
    """Apply a config with keys, which is all that it takes."""
    assert "the next boot encrypts EPHEMERAL in place" in apply(node, ENCRYPTED + BY_CONFIG)


def is_encrypted(stage: Stage, before: str) -> Way:
    """Check that the boot begins with it, that it is mounted with all of its files, and that it goes on to the end."""
    node = stage.machine
    with stage.let_go() as disk:
        begun = entries(disk)
    assert stage.boot().status == 0, node.journal("-n", "60")
    stage.assert_both_mounted()
    assert digest(node) == before
    wait_until_encrypted(node)
    assert digest(node) == before
    return Way(begun, entries(stage.disk), before, encrypts=True)


def is_decrypted(stage: Stage) -> Way:
    """Check that a config without keys and the verb announce it, and that it is mounted all the time."""
    node = stage.machine
    before = digest(node)
    assert "the next boot decrypts EPHEMERAL in place" in apply(node, PLAIN + BY_CONFIG)
    done = node.run("luksctl", "decrypt", EPHEMERAL, "--yes")
    assert (done.status, "is in use by" in done.stdout) == (EXIT_NEEDS_REBOOT, True), done
    with stage.let_go() as disk:
        begun = entries(disk)
    assert stage.boot().status == 0, node.journal("-n", "60")
    stage.assert_both_mounted()
    told = volume_of(node)["reencryption"]
    assert told["totalBytes"] >= told["doneBytes"]
    wait_until_plain(stage)
    assert digest(node) == before
    return Way(begun, entries(stage.disk), before, encrypts=False)


def has_to_make_room(stage: Stage) -> str:
    """Check that a filesystem too full to be shrunk is refused untouched; free some space, and return what is left."""
    node = stage.machine
    node.check("resize2fs", PARTITION)
    fill(node, 95)
    asks_for_encryption(node)
    with stage.let_go() as disk:
        untouched = disk.sha256(EPHEMERAL)
    assert stage.boot().status != 0
    assert "too full to be shrunk" in json.dumps(report(node, EPHEMERAL))
    with stage.let_go() as disk:
        assert disk.sha256(EPHEMERAL) == untouched
    node.check("sh", "-c", f"mount {PARTITION} {MOUNTED} && rm {FILES}/*[2-9]")
    before = digest(node)
    node.check("umount", MOUNTED)
    return before


def heals_after_cuts(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, logged: Disk, cuts: list[tuple[int, Way]]
) -> None:
    """Boot after each cut: mounted at once with the same files, and everything in place after a while, by itself."""
    log = read_log(logged.log_path)
    disk = Disk(disks.directory / "cut.img", "disk")
    replay(logged.base_path, log, cuts[0][0], disk.path)
    node = machine(node_spec(MachineSpec(disks=(disk,)), PLAIN + BY_CONFIG))
    node.restore()
    stage = Stage(node, disk)
    for cut, way in cuts:
        print(f"cut after {cut} writes, {way}", flush=True)
        stage.show(replay(logged.base_path, log, cut, disks.directory / "torn.img"))
        assert stage.boot().status == 0, node.journal("-n", "60")
        assert digest(node) == way.files
        if way.encrypts:
            wait_until_encrypted(node)
        else:
            wait_until_plain(stage)
        assert digest(node) == way.files
