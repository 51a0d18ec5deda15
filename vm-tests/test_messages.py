"""What an operator reads when something is wrong: volume, slot, cause, next command, the documented exit code.

And what nobody reads: no passphrase and no node UUID is in any output, report or line of the journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from nodes import CONFIG_PATH, NODE_ID, config, encrypted, node_spec, property_of, quick, report
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import DEFAULT_UUID, MachineSpec
from stage import Stage

from luksctl.model.config import EPHEMERAL, STATE

STATE_PASSPHRASE = "canary-of-state"
PASSPHRASE = "canary-of-ephemeral"
WRONG_PASSPHRASE = "canary-that-opens-nothing"
NEVER_SHOWN = (STATE_PASSPHRASE, PASSPHRASE, WRONG_PASSPHRASE, DEFAULT_UUID, DEFAULT_UUID.replace("-", ""))

STATE_BLOCK = encrypted(STATE, NODE_ID, f"slot: 1, static: {{passphrase: {STATE_PASSPHRASE}}}")
GOOD = quick(config(STATE_BLOCK, encrypted(EPHEMERAL, f"slot: 0, static: {{passphrase: {PASSPHRASE}}}")))
IMPATIENT = "timeouts: {device: 1s, hook: 2s}\n"
THREE_ERRORS = f"""\
apiVersion: v1alpha1
kind: VolumeConfig
name: STATE
encryption:
  provider: luks3
  keys:
    - {{slot: 0, nodeID: {{}}}}
---
apiVersion: v1alpha1
kind: VolumeConfig
name: EPHEMERAL
encryption:
  provider: luks2
  keys:
    - {{slot: 40, static: {{passphrase: {PASSPHRASE}}}}}
    - {{slot: 1, static: {{passphrase: ""}}}}
"""
PLACES = (
    (5, "VolumeConfig/STATE.encryption.provider", "unknown provider 'luks3'"),
    (15, "VolumeConfig/EPHEMERAL.encryption.keys[0].slot", "slot 40 is outside 0-31"),
    (16, "VolumeConfig/EPHEMERAL.encryption.keys[1].static.passphrase", "empty passphrase"),
)


class Operator:
    """Somebody who types commands; everything that was ever shown is kept."""

    def __init__(self, node: Machine) -> None:
        self.node = node
        self.shown = ""

    def reads(self, *words: str, status: int) -> str:
        """Return what a command prints for people; it must end with `status`."""
        result = self.node.run("luksctl", *words)
        self.shown += result.stdout + result.stderr
        assert result.status == status, result
        return result.stdout + result.stderr

    def parses(self, *words: str, status: int) -> dict[str, Any]:
        """Return what a command prints as JSON; it must end with `status`, and say so."""
        result = self.node.run("luksctl", *words, "--json")
        self.shown += result.stdout + result.stderr
        assert result.status == status, result
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def sees_hook_fail(self, volume: str, status: int) -> str:
        """Return what the journal has of a boot's attempt at `volume`; it must end with `status`."""
        unit = f"luksctl-open@{volume}.service"
        assert self.node.run("systemctl", "start", unit).status != 0
        assert property_of(self.node, unit, "ExecMainStatus") == str(status)
        assert report(self.node, volume)["exit_code"] == status
        said = self.node.journal("--output=cat", "-u", unit, "-n", "20")
        self.node.check(f"systemctl stop 'luksctl-retry@*'; systemctl reset-failed {unit}")
        return said


@pytest.fixture(scope="module")
def operator(shared_machine: Callable[[MachineSpec], Machine]) -> Operator:
    """Return an operator at a node with a good config and no disk."""
    node = shared_machine(node_spec(MachineSpec(files={"/etc/luksctl/luksctl.yaml": IMPATIENT}), GOOD))
    node.restore()
    return Operator(node)


def test_missing_partition(operator: Operator) -> None:
    """No partition called STATE: the label that was sought, and how a disk gets one; exit code 9."""
    said = operator.reads("boot", "STATE", status=9)
    assert "luksctl: STATE: no device found (a partition labelled 'STATE')\n" in said
    assert "hint: luksctl install DISK, or name it in the settings\n" in said
    found = operator.parses("boot", "STATE", status=9)
    assert (found["error"], found["exitCode"], found["volume"]) == ("DeviceMissing", 9, STATE)
    assert "STATE: no device found (a partition labelled 'STATE')" in operator.sees_hook_fail(STATE, 9)
    assert report(operator.node, STATE)["state"] == "missing"


def test_three_errors_in_one_config(operator: Operator) -> None:
    """All three are told at once, each with file, line and path, by validate and by the boot; exit code 2."""
    operator.node.write_file(CONFIG_PATH, THREE_ERRORS)
    lines = [f"{CONFIG_PATH}:{line}: {path}: {message}" for line, path, message in PLACES]
    said = operator.reads("validate", CONFIG_PATH, status=2)
    assert [line for line in lines if f"luksctl: {line}\n" in said] == lines
    found = operator.parses("validate", CONFIG_PATH, status=2)
    problems = [(problem["line"], problem["path"], problem["message"]) for problem in found["problems"]]
    assert (found["error"], problems) == ("ConfigError", list(PLACES))
    journal = operator.sees_hook_fail(STATE, 2).splitlines()
    assert [line for line in lines if line in journal] == lines
    assert f"next: luksctl validate {CONFIG_PATH}" in journal
    operator.node.write_file(CONFIG_PATH, GOOD)


def test_wrong_passphrase_and_no_secret_anywhere(operator: Operator, shared_disks: Shelf) -> None:
    """STATE's config has a passphrase that opens nothing: volume, slot, kind of key, next command; exit code 4."""
    node, disk = operator.node, shared_disks.talos(size_mib=256)
    node.plug(disk)
    stage = Stage(node, disk)
    stage.boot()
    stage.assert_both_mounted()
    node.check("systemctl", "stop", "system-ephemeral.mount", "luksctl-open@EPHEMERAL")
    node.check("cryptsetup", "close", "luks2-EPHEMERAL")
    node.write_file("/system/state/config.yaml", GOOD.replace(PASSPHRASE, WRONG_PASSPHRASE), mode=0o600)
    before = disk.sha256(EPHEMERAL)

    cause = "no configured key opens the volume: slot 0 (static key): the key does not open this slot"
    said = operator.reads("boot", "EPHEMERAL", status=4)
    assert f"luksctl: EPHEMERAL: {cause}\n" in said
    assert "hint: check the keys in the config, then: luksctl retry EPHEMERAL\n" in said
    found = operator.parses("boot", "EPHEMERAL", status=4)
    assert (found["error"], found["volume"], found["cause"]) == ("Locked", EPHEMERAL, cause)
    assert f"EPHEMERAL: {cause}" in operator.sees_hook_fail(EPHEMERAL, 4)
    assert operator.parses("status", status=4)["volumes"][1]["state"] == "locked"
    assert disk.sha256(EPHEMERAL) == before

    operator.reads("status", status=4)
    operator.parses("plan", status=8)
    operator.parses("meta", "list", status=0)
    operator.reads("meta", "list", status=0)
    written = operator.shown + node.journal() + node.check("sh", "-c", "cat /run/luksctl/report/*")
    assert cause in written
    assert [secret for secret in NEVER_SHOWN if secret.lower() in written.lower()] == []
