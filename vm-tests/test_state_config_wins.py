"""STATE's own config wins over META and over /etc; META follows it only with a key that was proven on STATE."""

from __future__ import annotations

from collections.abc import Callable

from nodes import CONFIG_PATH, NODE_ID, config, encrypted, meta_facts, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import read_log
from stage import Stage

HEADER_BYTES = 16 << 20
STATE_OWN = "/system/state/config.yaml"

SPARE = "slot: 1, static: {passphrase: the spare key of STATE}"
WRONG = "slot: 1, static: {passphrase: opens nothing here}"
NEVER_MADE = "slot: 5, kms: {endpoint: 'https://kms.invalid:4050'}"

FIRST = quick(config(encrypted("STATE", NODE_ID, SPARE), encrypted("EPHEMERAL", NODE_ID)))
ETC_OPENS_STATE = quick(config(encrypted("STATE", SPARE), encrypted("EPHEMERAL", WRONG)))
ETC_OPENS_NOTHING = quick(config(encrypted("STATE", WRONG), encrypted("EPHEMERAL", WRONG)))
OWN_UNPROVEN = quick(config(encrypted("STATE", NEVER_MADE), encrypted("EPHEMERAL", NODE_ID)))
OWN_PROVEN = quick(config(encrypted("STATE", SPARE, NODE_ID), encrypted("EPHEMERAL", NODE_ID)))
TAG_9_NODE_ID = '{"EncryptionProvider":"luks2","EncryptionKeys":[{"KeyNodeID":{},"KeySlot":0}]}'


def keys_in_meta(disk: Disk) -> tuple[int, ...]:
    """Return the slots of STATE that META's tag 9 lists."""
    meta = disk.partition("META")
    found = meta_facts(disk.read(meta.offset_bytes, meta.size_bytes)).state_encryption
    assert found is not None
    return tuple(key.slot for key in found.keys)


def slots_of(machine: Machine, volume: str) -> list[int]:
    """Return the keyslots that the volume has."""
    shown = next(each["slots"] for each in status(machine)["volumes"] if each["volume"] == volume)
    return [slot["slot"] for slot in shown]


def notes(machine: Machine, volume: str) -> str:
    """Return the notes of the last attempt at `volume`, which `luksctl status` shows as the report has them."""
    shown = next(each["lastAttempt"]["notes"] for each in status(machine)["volumes"] if each["volume"] == volume)
    assert shown == report(machine, volume)["notes"]
    return "\n".join(shown)


def test_states_own_config_wins_and_meta_follows_proven_keys(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """STATE, META and /etc say three things: STATE rules, META changes once a new key opened STATE, then nothing."""
    disk = disks.talos(log_writes=True)
    node = machine(node_spec(MachineSpec(disks=(disk,)), ETC_OPENS_NOTHING))
    node.restore()
    stage = Stage(node, disk)
    node.write_file(CONFIG_PATH, FIRST)
    stage.boot()
    stage.assert_both_mounted()

    # Three configs that differ. /etc's opens STATE and not EPHEMERAL; STATE's own key is not there and cannot be made.
    node.check("luksctl", "meta", "write", "9", TAG_9_NODE_ID, "--yes")
    node.write_file(STATE_OWN, OWN_UNPROVEN, mode=0o600)
    node.write_file(CONFIG_PATH, ETC_OPENS_STATE)
    with stage.let_go():
        meta_before = disk.sha256("META")
    stage.boot()
    stage.assert_both_mounted()
    assert report(node, "STATE")["config_source"] == CONFIG_PATH
    assert report(node, "STATE")["opened_by"] == "with slot 1 (static)"
    assert report(node, "EPHEMERAL")["config_source"] == STATE_OWN
    said = notes(node, "EPHEMERAL")
    assert f"{CONFIG_PATH} differs from STATE's own config and was ignored" in said
    assert "STATE does not follow the config" in said
    assert slots_of(node, "STATE") == [0, 1]
    assert node.read_file(STATE_OWN) == OWN_UNPROVEN.encode()

    # Now STATE's own config lists keys of STATE, and only META's opens it: META follows.
    node.write_file(STATE_OWN, OWN_PROVEN, mode=0o600)
    node.write_file(CONFIG_PATH, ETC_OPENS_NOTHING)
    with stage.let_go():
        assert disk.sha256("META") == meta_before
        assert keys_in_meta(disk) == (0,)
    stage.boot()
    stage.assert_both_mounted()
    assert report(node, "STATE")["config_source"] == "META tag 9"
    assert report(node, "STATE")["opened_by"] == "with slot 0 (nodeID)"
    assert report(node, "EPHEMERAL")["config_source"] == STATE_OWN
    with stage.let_go():
        assert disk.sha256("META") != meta_before
        assert keys_in_meta(disk) == (0, 1)

    writes_nothing_when_nothing_is_left_to_do(stage)


def writes_nothing_when_nothing_is_left_to_do(stage: Stage) -> None:
    """Check that the next boot writes no byte of META, and none of a header."""
    node, disk = stage.machine, stage.disk
    headers = {label: disk.read(disk.partition(label).offset_bytes, HEADER_BYTES) for label in ("STATE", "EPHEMERAL")}
    meta_before = disk.sha256("META")
    with stage.let_go():
        quiet_since = len(read_log(disk.log_path).entries)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    node.check("sync")
    assert report(node, "STATE")["config_source"] == "META tag 9"
    assert report(node, "EPHEMERAL")["config_source"] == STATE_OWN
    assert disk.sha256("META") == meta_before
    assert headers == {label: disk.read(disk.partition(label).offset_bytes, HEADER_BYTES) for label in headers}
    log = read_log(disk.log_path)
    assert len(log.entries) > quiet_since  # the mounted filesystems wrote
    for label, size_bytes in (("META", disk.partition("META").size_bytes), *((name, HEADER_BYTES) for name in headers)):
        written = log.touching(disk.partition(label).offset_bytes, size_bytes)
        assert [number for number in written if number >= quiet_since] == []
