"""The disk is moved to another machine: its nodeID opens nothing, the hook says why, and nothing is formatted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nodes import BOTH_BY_NODE_ID, luksctl_journal, mounted_from, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import DEFAULT_UUID, MachineSpec
from stage import Stage

OTHER_UUID = "c4b7a1d2-93e6-4f58-8a0b-6d2e4f917c35"
EXIT_LOCKED = 4
MARKER = "what the right machine wrote"


def contents(disk: Disk) -> dict[str, str]:
    """Return what would show the smallest write by luksctl."""
    return {label: disk.sha256(label) for label in ("META", "STATE", "EPHEMERAL")}


def spellings(uuid: str) -> set[str]:
    """Return the ways to write a UUID that would give it away: both SMBIOS byte orders, with hyphens and without."""
    fields = uuid.split("-")
    swapped = "-".join([bytes.fromhex(field)[::-1].hex() for field in fields[:3]] + fields[3:])
    return {uuid, swapped, uuid.replace("-", ""), swapped.replace("-", "")}


def everything_said(node: Machine) -> str:
    """Return all that luksctl told anybody in this boot."""
    told = [luksctl_journal(node)]
    for command in ("status", "status --json", "plan"):
        result = node.run(f"luksctl {command}")
        told += [result.stdout, result.stderr]
    told.append(node.check("sh", "-c", "cat /run/luksctl/report/*.json"))
    return "\n".join(told).lower()


def assert_locked(node: Machine, because: str) -> None:
    """Check that both volumes stayed locked and say why, and that the node is up all the same."""
    assert node.check("systemctl", "is-active", "multi-user.target").strip() == "active"
    assert status(node)["condition"] == "locked"
    for volume in ("STATE", "EPHEMERAL"):
        found = report(node, volume)
        assert found["state"] == "locked"
        assert found["exit_code"] == EXIT_LOCKED
        assert because in found["problem"], found
        assert mounted_from(node, f"/system/{volume.lower()}") == ""
    assert luksctl_journal(node).count(because) >= len(("STATE", "EPHEMERAL"))


def assert_no_uuid_in(text: str) -> None:
    """Check that no machine's UUID was given away."""
    for uuid in (DEFAULT_UUID, OTHER_UUID):
        for spelling in spellings(uuid):
            assert spelling not in text


def test_another_machine_opens_nothing_and_destroys_nothing(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """With another UUID both volumes stay as they are; the right machine then opens them again."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,)), quick(BOTH_BY_NODE_ID)))
    node.restore()
    stage = Stage(node, disk)
    stage.boot()
    stage.assert_both_mounted()
    node.write_file("/system/ephemeral/marker", MARKER)
    node.poweroff()
    before = contents(disk)

    node.spec = replace(node.spec, uuid=OTHER_UUID)
    assert node.start() == "degraded"
    assert_locked(node, "the volume was formatted on another machine")
    assert_no_uuid_in(everything_said(node))
    node.poweroff()
    assert contents(disk) == before

    node.spec = replace(node.spec, uuid=DEFAULT_UUID)
    assert node.start() == "running"
    stage.assert_both_mounted()
    assert_no_uuid_in(everything_said(node))
    assert node.read_file("/system/ephemeral/marker") == MARKER.encode()
