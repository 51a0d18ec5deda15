"""EPHEMERAL is locked to STATE, loses its header and then its salt: a backup and a recovery key bring it back."""

from __future__ import annotations

import json
from collections.abc import Callable

from nodes import NODE_ID, config, encrypted, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

LOCKED_TO_STATE = "slot: 0, nodeID: {}, lockToState: true"
CONFIG = quick(config(encrypted("STATE", NODE_ID), encrypted("EPHEMERAL", LOCKED_TO_STATE)))
RECOVERY_SLOT = 30
KEY, HEADER, SALT = "/root/recovery-key", "/root/header.img", "/system/state/encryption-salt.yaml"
MARKER = "/system/ephemeral/marker"
COPIES_BYTES = 32 * 1024
EXIT_REFUSED, EXIT_LOCKED = 3, 4


def recovered(node: Machine, *words: str) -> str:
    """Run a command with the recovery key on descriptor 3."""
    return node.check("sh", "-c", f'exec luksctl "$@" --key-fd 3 3<{KEY}', "sh", *words)


def test_what_was_lost_comes_back(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """A recovery key is made and proven; a wiped header is put back; without the salt, only the recovery key opens."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,)), CONFIG))
    node.restore()
    stage = Stage(node, disk)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    assert node.check("stat", "-c", "%a %u", SALT).split() == ["600", "0"]
    node.write_file(MARKER, "what the volume holds")
    makes_and_proves_a_recovery_key(node, disk)
    puts_a_lost_header_back(stage)
    opens_without_the_salt(stage)


def makes_and_proves_a_recovery_key(node: Machine, disk: Disk) -> None:
    """Check that the key is shown once, is nowhere else, opens, and that status warned until somebody tried it."""
    node.check("sh", "-c", f"umask 077; luksctl recovery add EPHEMERAL >{KEY}")
    shown = node.read_file(KEY).strip()
    assert "never verified" in node.run("luksctl", "status").stdout
    assert f"opens slot {RECOVERY_SLOT}" in recovered(node, "recovery", "verify", "EPHEMERAL")
    assert "never verified" not in node.run("luksctl", "status").stdout
    node.check("sync")
    assert not disk.contains(shown)
    assert shown not in node.journal().encode()


def puts_a_lost_header_back(stage: Stage) -> None:
    """Check that a header of which both copies are gone is refused, and that its backup brings all of it back."""
    node = stage.machine
    node.check("luksctl", "header", "backup", "EPHEMERAL", "--unencrypted", "--to", HEADER)
    while_open = node.run("luksctl", "header", "restore", "EPHEMERAL", "--from", HEADER, "--yes")
    assert while_open.status == EXIT_REFUSED, while_open
    with stage.let_go() as disk:
        disk.write(disk.partition("EPHEMERAL").offset_bytes, bytes(COPIES_BYTES))
        lost = disk.sha256("EPHEMERAL")
    assert stage.boot().status != 0
    assert report(node, "EPHEMERAL")["state"] != "ready"
    node.check("sync")
    assert stage.disk.sha256("EPHEMERAL") == lost

    restored = node.check("luksctl", "header", "restore", "EPHEMERAL", "--from", HEADER, "--yes", "--json")
    assert json.loads(restored)["volume"] == "EPHEMERAL"
    node.check("systemctl", "reset-failed")
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    assert node.read_file(MARKER) == b"what the volume holds"
    assert status(node)["exitCode"] == 0
    recovered(node, "recovery", "verify", "EPHEMERAL")


def opens_without_the_salt(stage: Stage) -> None:
    """Check that beside a STATE without its salt the volume stays locked, and that a recovery key opens it."""
    node = stage.machine
    node.check("mv", SALT, "/root/salt")
    with stage.let_go() as disk:
        before = disk.sha256("EPHEMERAL")
    assert stage.boot().status != 0
    found = report(node, "EPHEMERAL")
    assert (found["state"], found["exit_code"]) == ("locked", EXIT_LOCKED), found
    assert "salt" in found["problem"], found
    assert node.run("test", "-e", SALT).status != 0  # a new one would hide that the old one is missing
    node.check("sync")
    assert stage.disk.sha256("EPHEMERAL") == before

    recovered(node, "unlock", "EPHEMERAL", "--recovery")
    stage.assert_both_mounted()
    assert node.read_file(MARKER) == b"what the volume holds"
    assert report(node, "EPHEMERAL")["opened_by"] == f"with the recovery key, slot {RECOVERY_SLOT}"
    with stage.let_go():
        pass
    assert node.check("systemctl", "start", "system-state.mount") == ""
    node.check("cp", "/root/salt", SALT)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    assert status(node)["exitCode"] == 0
