"""Keys in a TPM: firmware changes, the TPM is slow, cleared, replaced and away; other keys open meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from nodes import CHEAP_POLICY, VOLUMES, encrypted, headers, luksctl_journal, node_spec, quick, report, status
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.tpm import CREATE_PRIMARY
from stage import Stage
from tpm_commands import clear, extend

TPM, STATIC, NODE_ID = "slot: 0, tpm: {}", "slot: 1, static: {passphrase: the second}", "slot: 1, nodeID: {}"
SECURE_TPM = "slot: 2, tpm: {checkSecurebootStatusOnEnroll: true}"
STATE_KEYS, POLICY = encrypted("STATE", TPM, STATIC), CHEAP_POLICY + "tpm: {literalPCRs: true}\n"
CONFIG = quick(STATE_KEYS + encrypted("EPHEMERAL", TPM, NODE_ID) + POLICY)
WITH_SECURE_TPM = quick(STATE_KEYS + encrypted("EPHEMERAL", TPM, NODE_ID, SECURE_TPM) + POLICY)
BY_TPM = "with slot 0 (tpm)"
BY_OTHERS = {"STATE": "with slot 1 (static)", "EPHEMERAL": "with slot 1 (nodeID)"}
DEGRADED = 5
ABSENT = "this machine has no TPM device"


def test_keys_in_the_tpm(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Both volumes open by the TPM; after each change another key opens, and what is lost is sealed anew when asked."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,), tpm=True), CONFIG))
    assert node.start() == "running"
    stage = Stage(node, disk)
    stage.assert_both_mounted()
    opens_by_the_tpm(stage)
    is_not_waited_for_when_it_is_slow(stage)
    is_not_made_without_the_secure_boot_it_asks_for(stage)
    is_sealed_anew_when_told_to_after_new_firmware(stage)
    is_sealed_anew_when_told_to_after_a_clear_and_in_another_tpm(stage)
    is_left_alone_without_a_tpm(stage)


def boot_again(stage: Stage) -> None:
    """Let go of the disk, and boot from it again."""
    with stage.let_go():
        pass
    assert stage.boot().status == 0
    stage.assert_both_mounted()


def opens_by_the_tpm(stage: Stage) -> None:
    """Check a second boot: no other key is needed, all is in sync, and no byte of either header is written."""
    with stage.let_go() as disk:
        before = headers(disk)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    for volume in VOLUMES:
        assert report(stage.machine, volume)["opened_by"] == BY_TPM
    assert status(stage.machine)["exitCode"] == 0
    with stage.let_go() as disk:
        assert headers(disk) == before


def is_not_made_without_the_secure_boot_it_asks_for(stage: Stage) -> None:
    """Check that such a key is refused with its reason, here where the firmware knows no Secure Boot at all."""
    node = stage.machine
    before = headers(stage.disk)
    node.write_file("/root/with.yaml", WITH_SECURE_TPM)
    refused = node.run("luksctl", "apply-config", "-f", "/root/with.yaml")
    assert refused.status == DEGRADED, refused
    assert "slot 2" in refused.stderr
    assert "the key asks for Secure Boot when it is made" in refused.stderr
    node.write_file("/root/without.yaml", CONFIG)
    node.check("luksctl", "apply-config", "-f", "/root/without.yaml")
    assert status(node)["exitCode"] == 0
    node.check("sync")
    assert headers(stage.disk) == before


def assert_opened_by_others(stage: Stage, because: str) -> None:
    """Boot; the second keys open, nothing is sealed anew, and what to do is said."""
    with stage.let_go() as disk:
        before = headers(disk)
    assert stage.boot().status == 0
    assert_left_alone(stage, because, before)


def assert_left_alone(stage: Stage, because: str, before: dict[str, bytes]) -> None:
    """Check that the second keys opened, that no header was written, and that what to do is said."""
    node = stage.machine
    stage.assert_both_mounted()
    for volume, opened_by in BY_OTHERS.items():
        found = report(node, volume)
        assert found["opened_by"] == opened_by
        assert found["in_sync"] is False, found
        said = "\n".join(found["notes"])
        assert because in said, said
    assert f"luksctl keys rotate {volume} --slot 0" in said or because == ABSENT
    assert because in node.run("luksctl", "doctor").stdout
    assert status(node)["exitCode"] == DEGRADED
    node.check("sync")
    assert headers(stage.disk) == before


def is_sealed_anew_when_told_to_after_new_firmware(stage: Stage) -> None:
    """Check that PCR 7 decides: changed, others open; sealed anew by command and by sync, the TPM opens again."""
    node = stage.machine
    extend(node, 7, "firmware of another version")
    assert_opened_by_others(stage, "PCR 7 is ")
    # The second stage of a boot asks for STATE's key once more, with STATE's notes at hand.
    assert "\n".join(report(node, "EPHEMERAL")["notes"]).count(", and was ") == len(VOLUMES)
    node.check("luksctl", "keys", "rotate", "STATE", "--slot", "0")
    node.check("luksctl", "sync", "EPHEMERAL")
    opens_by_the_tpm_again(stage)


def opens_by_the_tpm_again(stage: Stage) -> None:
    """Check the boot after sealing anew."""
    boot_again(stage)
    for volume in VOLUMES:
        assert report(stage.machine, volume)["opened_by"] == BY_TPM
    assert status(stage.machine)["exitCode"] == 0


def is_not_waited_for_when_it_is_slow(stage: Stage) -> None:
    """Check that a TPM that does not answer costs a boot its deadline once, and no key; then all is as before."""
    node = stage.machine
    with stage.let_go() as disk:
        before = headers(disk)
    # One volume is enough to wait for.
    node.check("systemctl", "start", "system-state.mount")
    node.tpm.hold(CREATE_PRIMARY)
    try:
        node.check("systemctl", "start", "system-ephemeral.mount")
        stage.assert_both_mounted()
        found = report(node, "EPHEMERAL")
        assert found["opened_by"] == BY_OTHERS["EPHEMERAL"]
        assert "the TPM did not answer in 30 s, nor since" in "\n".join(found["notes"]), found
        said = luksctl_journal(node)
        waited = [f"the TPM has not answered for {seconds} s" for seconds in (5, 10, 15, 20, 25)]
        assert [line for line in waited if line not in said] == []
    finally:
        node.tpm.release()
    assert "EPHEMERAL: in sync" in node.check("luksctl", "sync", "EPHEMERAL")
    node.check("sync")
    assert headers(stage.disk) == before


def is_sealed_anew_when_told_to_after_a_clear_and_in_another_tpm(stage: Stage) -> None:
    """Check that a TPM that forgot everything, and another one, are told from changed PCRs; a person's sync enrols."""
    node = stage.machine
    clear(node)
    assert_opened_by_others(stage, "it was replaced, or cleared")
    before = headers(stage.disk)
    node.cut_power()
    node.replace_tpm()
    assert node.start() == "running"
    assert_left_alone(stage, "it was replaced, or cleared", before)
    node.check("luksctl", "sync")
    opens_by_the_tpm_again(stage)


def is_left_alone_without_a_tpm(stage: Stage) -> None:
    """Check that a TPM that is away loses no key, whoever asks."""
    node = stage.machine
    driver = "/sys/bus/acpi/drivers/tpm_crb"
    device = node.check(f"basename $(ls -d {driver}/MSFT*)").strip()
    node.check(f"echo {device} > {driver}/unbind")
    assert_opened_by_others(stage, ABSENT)
    refused = node.run("luksctl", "sync", "EPHEMERAL")
    assert refused.status == DEGRADED, refused
    assert ABSENT in refused.stderr
