"""A mounted volume gets a new volume key under write load: data and keys are as before, the old header is of no use.

The whole run is written down once; power cuts are moments of that log, put under a running guest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nodes import NODE_ID, config, encrypted, node_spec, quick, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import read_log, replay
from stage import Stage

from luksctl.model.config import EPHEMERAL
from tests.sampling import sampled

PASSPHRASE = "the static one"
KEYS = (NODE_ID, f"slot: 3, static: {{passphrase: {PASSPHRASE}}}", "slot: 5, static: {passphrase: another}")
EXT4 = "filesystems: {EPHEMERAL: ext4}\n"
CONFIG = quick(config(encrypted("STATE", NODE_ID), encrypted(EPHEMERAL, *KEYS)) + EXT4)
KEY, HEADER = "/root/recovery-key", "/root/header.img"
DATA, LOAD = "/system/ephemeral/data", "/system/ephemeral/load"
DATA_MIB = 24
UNIT = f"luksctl-reencrypt@{EPHEMERAL}.service"
WRITE_LOAD = f"i=0; while i=$((i+1)); do echo $i >{LOAD}.new; sync {LOAD}.new; mv {LOAD}.new {LOAD}; sleep 0.1; done"
# Moments at which power is cut: so many parts of the log of the run, from the announcement to the end.
CUTS, SHARE = 20, 20
EXIT_BUSY = 11


def volume_of(node: Machine) -> dict[str, Any]:
    """Return what status says of EPHEMERAL."""
    found: dict[str, Any] = status(node)["volumes"][1]
    return found


def wait_until_ended(node: Machine) -> None:
    """Wait until nothing is announced any more."""
    node.wait_until("luksctl status --json | grep -q '\"intents\": \\[\\]'", timeout_s=300)


def assert_all_is_as_before(node: Machine, recovery_slots: int) -> None:
    """Check that every key is at its configured number and in sync, and how many other slots there are."""
    volume = volume_of(node)
    kinds = {slot["slot"]: slot["kind"] for slot in volume["slots"]}
    configured = {number: kind for number, kind in kinds.items() if kind != "recovery"}
    assert configured == {0: "nodeID", 3: "static", 5: "static"}
    assert len(kinds) == 3 + recovery_slots
    assert volume["reencryption"] is None
    node.check("luksctl", "sync", "--dry-run")
    node.check("luksctl", "check", EPHEMERAL)


def test_volume_key_of_a_mounted_volume_is_renewed(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, tmp_path: Path
) -> None:
    """Begun under write load, it goes on in its service, and again after power cuts at moments of the whole run."""
    (tmp_path / "logged").mkdir()
    logged = Shelf(tmp_path / "logged").talos(size_mib=256, log_writes=True)
    node = machine(node_spec(MachineSpec(disks=(logged,)), CONFIG))
    node.restore()
    stage = Stage(node, logged)
    assert stage.boot().status == 0
    digest = makes_data_and_keys(node)
    begun = renews_it(node, logged)
    node.check("sync")
    ended = len(read_log(logged.log_path).entries)
    assert node.check("sha256sum", DATA).split()[0] == digest
    assert_all_is_as_before(node, 1)
    the_old_header_is_of_no_use(stage)
    node.cut_power()
    node.close()
    heals_after_cuts(machine, disks, logged, digest, [begun + (ended - begun) * part // CUTS for part in range(CUTS)])


def makes_data_and_keys(node: Machine) -> str:
    """Fill EPHEMERAL, add a recovery key, keep a header of the old volume key; return the digest of the data."""
    node.check("sh", "-c", f"dd if=/dev/urandom of={DATA} bs=1M count={DATA_MIB} status=none && sync")
    node.check("sh", "-c", f"umask 077; luksctl recovery add {EPHEMERAL} >{KEY}")
    node.check("luksctl", "header", "backup", EPHEMERAL, "--unencrypted", "--to", HEADER)
    return node.check("sha256sum", DATA).split()[0]


def renews_it(node: Machine, logged: Disk) -> int:
    """Re-encrypt under load; return where the log of the disk was when it began."""
    refused = node.run("luksctl", "reencrypt", EPHEMERAL)
    assert refused.status == 3, refused
    assert "its recovery key was not given" in refused.stderr
    slot = next(each["slot"] for each in volume_of(node)["slots"] if each["kind"] == "recovery")
    load = node.begin("sh", "-c", WRITE_LOAD)
    begun = len(read_log(logged.log_path).entries)
    node.check("sh", "-c", f"exec luksctl reencrypt {EPHEMERAL} --no-wait --max-rate 16MiB --key-fd {slot}:3 3<{KEY}")
    node.wait_until(f"luksctl status --json {EPHEMERAL} | grep -q '\"running\": true'", timeout_s=60)
    while_running(node)
    wait_until_ended(node)
    node.check("pkill", "-f", LOAD)
    node.finish(load)
    return begun


def while_running(node: Machine) -> None:
    """Check what is told, and that whatever changes keyslots waits, and is refused rather than failed."""
    told = volume_of(node)["reencryption"]
    assert (told["stage"], told["running"]) == ("running", True)
    assert told["totalBytes"] > told["doneBytes"]
    for words in (("sync",), ("recovery", "add", EPHEMERAL)):
        refused = node.run("luksctl", *words, "--json")
        error = json.loads(refused.stdout)["error"]
        assert (refused.status, error) == (EXIT_BUSY, "ReencryptionRunning"), refused


def the_old_header_is_of_no_use(stage: Stage) -> None:
    """Check that a header kept from before opens, with its passphrase, nothing that could be read."""
    node = stage.machine
    with stage.let_go():
        device = node.check("sh", "-c", "readlink -f /dev/disk/by-partlabel/EPHEMERAL").strip()
        opened = f"printf '{PASSPHRASE}' | cryptsetup open --readonly --key-file - --header {HEADER} {device} old"
        node.check("sh", "-c", opened)
        assert node.run("blkid", "-p", "/dev/mapper/old").status == 2
        node.check("cryptsetup", "close", "old")


def heals_after_cuts(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, logged: Disk, digest: str, cuts: list[int]
) -> None:
    """Boot after each cut: mounted at once with the same data, and everything in place after a while, by itself."""
    log = read_log(logged.log_path)
    disk = Disk(disks.directory / "cut.img", "disk")
    replay(logged.base_path, log, cuts[0], disk.path)
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    stage = Stage(node, disk)
    for cut in sampled(cuts, SHARE):
        stage.show(replay(logged.base_path, log, cut, disks.directory / "torn.img"))
        assert stage.boot().status == 0, node.journal("-n", "60")
        stage.assert_both_mounted()
        assert node.check("sha256sum", DATA).split()[0] == digest
        wait_until_ended(node)
        assert node.check("sha256sum", DATA).split()[0] == digest
        assert_all_is_as_before(node, 1)


pytestmark = pytest.mark.timeout(7200 if os.environ.get("FAULTS") == "all" else 1800)
