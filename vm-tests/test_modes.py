"""A running node takes configs on trial, keeps one, loses one to a power cut, reboots for another, has an editor."""

from __future__ import annotations

import json
from collections.abc import Callable

from nodes import NODE_ID, config, encrypted, luksctl_journal, node_spec, quick, report, status
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

STATE_OWN, STAGED, NEW = "/system/state/config.yaml", "/system/state/staged.yaml", "/root/new.yaml"
MACHINE = "machine:\n  type: worker\n"
NEVER = "3600s"
EDITOR, SEEN = "/root/editor", "/root/seen"


def by_keys(*keys: str, machine: str = MACHINE) -> str:
    """Return a config whose EPHEMERAL has these keys."""
    return quick(machine + config(encrypted("STATE", NODE_ID), encrypted("EPHEMERAL", *keys)))


def by_passphrase(words: str, machine: str = MACHINE) -> str:
    """Return a config whose EPHEMERAL has one static key."""
    return by_keys(f"slot: 0, static: {{passphrase: {words}}}", machine=machine)


FIRST, SECOND, THIRD = by_passphrase("the first key"), by_passphrase("the second key"), by_passphrase("the third key")
WITH_ENVIRONMENT = by_passphrase("the third key", MACHINE + "  env: {A: b}\n")


def applied(node: Machine, text: str, *words: str) -> str:
    """Apply a config; return what is said as JSON."""
    node.write_file(NEW, text, mode=0o600)
    return node.check("luksctl", "apply-config", "-f", NEW, "--json", *words)


def opens(node: Machine, words: str) -> bool:
    """Tell whether a passphrase opens any slot of EPHEMERAL, by the stock program."""
    device = "/dev/disk/by-partlabel/EPHEMERAL"
    return (
        node.run("cryptsetup", "open", "--test-passphrase", "--key-file", "-", device, stdin=words.encode()).status == 0
    )


def slots(node: Machine) -> int:
    """Return how many keyslots EPHEMERAL has."""
    return len(next(each["slots"] for each in status(node)["volumes"] if each["volume"] == "EPHEMERAL"))


def test_configs_are_tried_kept_lost_and_staged(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Whatever happens, the volumes come up by the config that STATE holds, and no key is left of another one."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,)), FIRST))
    node.restore()
    stage = Stage(node, disk)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    silence_takes_it_back(node)
    confirming_keeps_it(node)
    a_key_is_added_and_the_old_one_dropped(node)
    a_power_cut_takes_it_back(stage)
    a_field_that_needs_it_reboots_the_node(stage)
    a_wrong_save_comes_back_into_the_editor(node)
    a_wrong_config_is_mended_from_the_node_that_it_degraded(stage)


def silence_takes_it_back(node: Machine) -> None:
    """Check that both keys open while it is tried, and after its time the first one alone."""
    shown = json.loads(applied(node, SECOND, "--mode=try", "--timeout=20s"))
    assert (shown["mode"], shown["stored"]) == ("try", False)
    assert slots(node) == 2
    assert opens(node, "the first key")
    assert opens(node, "the second key")
    assert node.read_file(STATE_OWN) == FIRST.encode()
    node.wait_for_unit("luksctl-trial.service", "inactive")
    assert "was taken back" in luksctl_journal(node)
    assert (slots(node), opens(node, "the second key"), opens(node, "the first key")) == (1, False, True)
    assert json.loads(node.check("luksctl", "trial", "show", "--json"))["onTrial"] is False


def confirming_keeps_it(node: Machine) -> None:
    """Check that the same file, applied again, is stored, and that the first key opens nothing any more."""
    applied(node, SECOND, "--mode=try", f"--timeout={NEVER}")
    applied(node, SECOND)
    assert node.read_file(STATE_OWN) == SECOND.encode()
    assert (slots(node), opens(node, "the first key"), opens(node, "the second key")) == (1, False, True)
    node.wait_for_unit("luksctl-trial.service", "inactive")
    assert slots(node) == 1


def a_key_is_added_and_the_old_one_dropped(node: Machine) -> None:
    """Check the recipe of the documentation, there and back: each apply is live, and one key at least always opens."""
    old, new = "slot: 0, static: {passphrase: the second key}", "slot: 1, static: {passphrase: a new key}"
    for keys, opening in (((old, new), (True, True)), ((new,), (False, True)), ((old, new), (True, True))):
        applied(node, by_keys(*keys))
        assert slots(node) == len(keys)
        assert (opens(node, "the second key"), opens(node, "a new key")) == opening
    applied(node, SECOND)
    assert (slots(node), opens(node, "the second key"), opens(node, "a new key")) == (1, True, False)


def a_power_cut_takes_it_back(stage: Stage) -> None:
    """Check that the boot opens by the stored config, leaves nothing of the trial, and says so."""
    node = stage.machine
    applied(node, THIRD, "--mode=try", f"--timeout={NEVER}")
    assert opens(node, "the third key")
    node.reset()
    stage.assert_both_mounted()
    assert any("taken back by the reboot" in note for note in report(node, "EPHEMERAL")["notes"])
    assert (slots(node), opens(node, "the third key"), opens(node, "the second key")) == (1, False, True)
    assert status(node)["exitCode"] == 0


def a_field_that_needs_it_reboots_the_node(stage: Stage) -> None:
    """Check that the dry run says it, nothing follows before, and the boot follows it with the new key alone."""
    node = stage.machine
    node.write_file(NEW, WITH_ENVIRONMENT, mode=0o600)
    dry = node.check("luksctl", "apply-config", "-f", NEW, "--dry-run")
    assert "it would be stored for the next boot, and the node rebooted (machine.env)" in dry
    assert "+  env: {A: b}" in dry
    assert "key" not in "".join(line for line in dry.splitlines() if "passphrase" in line)
    refused = node.run("luksctl", "apply-config", "-f", NEW, "--mode=no-reboot")
    assert refused.status != 0
    assert "machine.env" in refused.stderr
    assert not opens(node, "the third key")
    applied(node, WITH_ENVIRONMENT, "--mode=staged")
    assert node.read_file(STATE_OWN) == SECOND.encode()
    assert not opens(node, "the third key")
    node.begin("luksctl", "apply-config", "-f", NEW)
    node.wait_reboot()
    stage.assert_both_mounted()
    assert node.read_file(STATE_OWN) == WITH_ENVIRONMENT.encode()
    assert node.run("test", "-e", STAGED).status != 0
    assert (slots(node), opens(node, "the second key"), opens(node, "the third key")) == (1, False, True)
    assert status(node)["exitCode"] == 0


def edit(node: Machine, *changes: str) -> str:
    """Edit the config with an editor that makes one change after the other; return the last text it was shown."""
    cases = "".join(f"{number}) sed -i '{change}' \"$1\" ;;\n" for number, change in enumerate(changes, start=1))
    script = f'#!/bin/sh\necho >>{SEEN}.count\ncp "$1" {SEEN}\ncase $(wc -l <{SEEN}.count) in\n{cases}esac\n'
    node.run("rm", "-f", f"{SEEN}.count")
    node.write_file(EDITOR, script, mode=0o700)
    node.check("env", f"EDITOR={EDITOR}", "luksctl", "edit", "machineconfig")
    return node.read_file(SEEN).decode()


def a_wrong_save_comes_back_into_the_editor(node: Machine) -> None:
    """Check that a broken text is shown again with its problem on top, and the mended one is followed at once."""
    shown = edit(node, "s/provider: luks2/provider: luks9/", "s/luks9/luks2/; s/the third key/the fourth key/")
    assert "# luksctl: It was not taken:" in shown
    assert "unknown provider 'luks9'" in shown
    mended = WITH_ENVIRONMENT.replace("the third key", "the fourth key")
    assert node.read_file(STATE_OWN) == mended.encode()
    assert (slots(node), opens(node, "the third key"), opens(node, "the fourth key")) == (1, False, True)


def a_wrong_config_is_mended_from_the_node_that_it_degraded(stage: Stage) -> None:
    """Check that a node whose own config is wrong comes up in part, and is itself again once that was edited."""
    node = stage.machine
    node.check("sed", "-i", "s/provider: luks2/provider: luks9/", STATE_OWN)
    node.check("sync")
    node.reset()
    assert status(node)["exitCode"] != 0
    assert node.run("mountpoint", "-q", "/system/state").status == 0
    edit(node, "s/luks9/luks2/")
    node.begin("luksctl", "reboot")
    node.wait_reboot()
    stage.assert_both_mounted()
    assert status(node)["exitCode"] == 0
