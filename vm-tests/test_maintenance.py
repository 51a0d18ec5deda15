"""A node without any config says so and waits; its first one, given by hand, takes it to mounted volumes at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nodes import BOTH_BY_NODE_ID, CONFIG_PATH, luksctl_journal, meta_facts, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import WriteLog, read_log, replay
from stage import Stage

CONFIG = quick(BOTH_BY_NODE_ID) + "# the bytes as they were submitted, this line and its two spaces  \n"
SUBMITTED = "/root/first.yaml"
APPLY = ("luksctl", "apply-config", "--insecure", "-f", SUBMITTED)
EXIT_REFUSED, EXIT_MAINTENANCE = 3, 12
# The states of a socket in /proc/net that waits: TCP_LISTEN, and what a UDP socket is in without a peer.
LISTENS = {"0A", "07"}


def assert_waiting_for_config(node: Machine, volume: str, because: str) -> None:
    """Check that the node announces, by `volume`, that it waits for its first config, and how to give it."""
    found = report(node, volume)
    assert found["state"] == "maintenance"
    assert found["exit_code"] == EXIT_MAINTENANCE
    assert because in found["problem"]
    assert found["hint"] == "luksctl apply-config --insecure -f FILE"
    assert because in luksctl_journal(node)
    shown = status(node)
    assert (shown["condition"], shown["exitCode"]) == ("maintenance", EXIT_MAINTENANCE)
    assert shown["next"][0] == "luksctl apply-config --insecure -f FILE"


def assert_nobody_listens(node: Machine) -> None:
    """Check that no process of the node waits for connections or packets from elsewhere."""
    for table in ("tcp", "tcp6", "udp", "udp6"):
        listed = node.check("sh", "-c", f"cat /proc/net/{table} 2>/dev/null || true").splitlines()[1:]
        assert [line for line in listed if line.split()[3] in LISTENS] == [], table


def assert_applied(stage: Stage) -> None:
    """Check that the first config took the node to mounted volumes, and that STATE holds the submitted bytes."""
    stage.assert_both_mounted()
    assert stage.machine.read_file("/system/state/config.yaml") == CONFIG.encode()
    assert status(stage.machine)["exitCode"] == 0


def milestones(disk: Disk, log: WriteLog) -> tuple[int, int]:
    """Return the entries after which META first announced STATE's format, and first called it finished."""
    place = disk.partition("META")
    with disk.base_path.open("rb") as file:
        file.seek(place.offset_bytes)
        meta = bytearray(file.read(place.size_bytes))
    announced = 0
    for number in log.touching(place.offset_bytes, place.size_bytes):
        entry = log.entries[number]
        start = entry.offset_bytes - place.offset_bytes
        meta[start : start + entry.size_bytes] = log.data(entry)
        record = meta_facts(bytes(meta)).record
        if record.intent("STATE") is not None:
            announced = announced or number + 1
        elif record.encrypted == ("STATE",):
            return announced, number + 1
    raise AssertionError("META never called STATE finished")


def test_the_first_config_by_hand(machine: Callable[[MachineSpec], Machine], disks: Shelf, tmp_path: Path) -> None:
    """It mounts both volumes without a reboot; cut before it said so, it is taken again; cut after, it holds."""
    disk = disks.talos(log_writes=True)
    node = machine(node_spec(MachineSpec(disks=(disk,)), None))
    node.restore()
    node.write_file(SUBMITTED, CONFIG, mode=0o600)
    stage = Stage(node, disk)
    waits_without_touching_anything(stage)
    log = takes_its_first_config(stage)
    takes_it_again_after_a_cut(stage, log, tmp_path / "torn.img")
    keeps_it_after_a_cut(stage, log, tmp_path / "survivor.img")


def waits_without_touching_anything(stage: Stage) -> None:
    """Check that a boot without config ends in maintenance, and that a config needs --insecure there."""
    node, blank = stage.machine, stage.disk.sha256()
    assert stage.boot().status != 0
    assert_waiting_for_config(node, "STATE", "no machine config, and STATE is blank")
    secure = node.run("luksctl", "apply-config", "-f", SUBMITTED)
    assert secure.status == EXIT_REFUSED, secure
    assert "luksctl apply-config --insecure -f FILE" in secure.stderr
    node.check("sync")
    assert stage.disk.sha256() == blank
    assert_nobody_listens(node)


def takes_its_first_config(stage: Stage) -> WriteLog:
    """Check that the config leads to mounted volumes; return the writes up to the moment it was reported as taken."""
    stage.machine.check(*APPLY)
    log = read_log(stage.disk.log_path)
    assert_applied(stage)
    again = stage.machine.run(*APPLY)
    assert again.status == EXIT_REFUSED, again
    assert "--insecure is only for a node without any config" in again.stderr
    return log


def takes_it_again_after_a_cut(stage: Stage, log: WriteLog, image: Path) -> None:
    """Check two cuts before success was told: amid the format of STATE, and with STATE whole but without a config."""
    node, base = stage.machine, stage.disk.base_path
    announced, finished = milestones(stage.disk, log)
    stage.show(replay(base, log, (announced + finished) // 2, image))
    assert stage.boot().status != 0
    assert_waiting_for_config(node, "STATE", "no machine config, and the first format of STATE did not finish")
    node.check(*APPLY)
    assert_applied(stage)

    stage.show(replay(base, log, finished, image))
    assert stage.boot().status != 0
    assert_waiting_for_config(node, "EPHEMERAL", "STATE holds no machine config, and none is at hand")
    node.check(*APPLY)
    assert_applied(stage)


def keeps_it_after_a_cut(stage: Stage, log: WriteLog, image: Path) -> None:
    """Check the boot after a cut right after success was told, on a drive that lost all it was not told to flush."""
    node, told = stage.machine, len(log.entries)
    stage.show(replay(stage.disk.base_path, log, told, image, lost=log.unflushed(told)))
    assert stage.boot().status == 0
    assert_applied(stage)
    assert report(node, "STATE")["config_source"] == "META tag 9"
    assert report(node, "EPHEMERAL")["config_source"] == "/system/state/config.yaml"
    assert node.run("test", "-e", CONFIG_PATH).status != 0
