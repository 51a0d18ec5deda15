"""Keys in a TPM: firmware changes, the TPM is cleared, and goes away; other keys open meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from nodes import CHEAP_POLICY, encrypted, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from stage import Stage

TPM, STATIC, NODE_ID = "slot: 0, tpm: {}", "slot: 1, static: {passphrase: the second}", "slot: 1, nodeID: {}"
CONFIG = quick(
    encrypted("STATE", TPM, STATIC) + encrypted("EPHEMERAL", TPM, NODE_ID) + CHEAP_POLICY + "tpm: {literalPCRs: true}\n"
)
BY_TPM = "with slot 0 (tpm)"
VOLUMES = ("STATE", "EPHEMERAL")
DEGRADED = 5
ABSENT = "this machine has no TPM device"

# What firmware of another version would measure, and what it does when it is told to forget all keys: TPM 2.0 library
# specification part 3, TPM2_PCR_Extend and TPM2_Clear, with empty passwords.
COMMANDS = """
import struct, sys

def send(code, handle, parameters=b""):
    password = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
    body = struct.pack(">I", handle) + struct.pack(">I", len(password)) + password + parameters
    with open("/dev/tpm0", "r+b", buffering=0) as tpm:
        tpm.write(struct.pack(">HII", 0x8002, 10 + len(body), code) + body)
        answer = struct.unpack(">HII", tpm.read(4096)[:10])
    sys.exit(f"TPM: {answer[2]:#x}" if answer[2] else 0)

if sys.argv[1] == "extend":
    send(0x182, int(sys.argv[2]), struct.pack(">IH", 1, 0x000B) + sys.argv[3].encode().ljust(32))
send(0x126, 0x4000000A)
"""


def test_keys_in_the_tpm(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Both volumes open by the TPM; after each change another key opens, and what is lost is sealed anew when asked."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,), tpm=True), CONFIG))
    assert node.start() == "running"
    stage = Stage(node, disk)
    stage.assert_both_mounted()
    node.write_file("/root/tpm.py", COMMANDS)
    opens_by_the_tpm(stage)
    is_sealed_anew_when_told_to_after_new_firmware(stage)
    is_sealed_anew_when_told_to_after_a_clear(stage)
    is_left_alone_without_a_tpm(stage)


def tpm(node: Machine, *words: str) -> None:
    """Send the TPM a command, past luksctl."""
    node.check("python3", "/root/tpm.py", *words)


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


def headers(disk: Disk) -> dict[str, bytes]:
    """Return both header copies of both volumes."""
    return {volume: disk.read(disk.partition(volume).offset_bytes, 32 * 1024) for volume in VOLUMES}


def assert_opened_by_others(stage: Stage, because: str) -> None:
    """Check that the second keys opened, that nothing was sealed anew, and that what to do is said."""
    node = stage.machine
    with stage.let_go() as disk:
        before = headers(disk)
    assert stage.boot().status == 0
    stage.assert_both_mounted()
    for volume, opened_by in (("STATE", "with slot 1 (static)"), ("EPHEMERAL", "with slot 1 (nodeID)")):
        found = report(node, volume)
        assert found["opened_by"] == opened_by
        assert found["in_sync"] is False, found
    said = "\n".join(report(node, "EPHEMERAL")["notes"])
    assert because in said, said
    assert "luksctl keys rotate EPHEMERAL --slot 0" in said or because == ABSENT
    assert because in node.run("luksctl", "doctor").stdout
    assert status(node)["exitCode"] == DEGRADED
    node.check("sync")
    after = headers(stage.disk)
    assert after["EPHEMERAL"] == before["EPHEMERAL"]


def is_sealed_anew_when_told_to_after_new_firmware(stage: Stage) -> None:
    """Check that PCR 7 decides: changed, others open; sealed anew by command and by sync, the TPM opens again."""
    node = stage.machine
    tpm(node, "extend", "7", "firmware of another version")
    assert_opened_by_others(stage, "PCR 7 is ")
    assert ", and was " in "\n".join(report(node, "EPHEMERAL")["notes"])
    node.check("luksctl", "keys", "rotate", "STATE", "--slot", "0")
    node.check("luksctl", "sync", "EPHEMERAL")
    opens_by_the_tpm_again(stage)


def opens_by_the_tpm_again(stage: Stage) -> None:
    """Check the boot after sealing anew."""
    boot_again(stage)
    for volume in VOLUMES:
        assert report(stage.machine, volume)["opened_by"] == BY_TPM
    assert status(stage.machine)["exitCode"] == 0


def is_sealed_anew_when_told_to_after_a_clear(stage: Stage) -> None:
    """Check that a TPM that forgot everything, or another one, is told from changed PCRs."""
    node = stage.machine
    tpm(node, "clear")
    assert_opened_by_others(stage, "it was replaced, or cleared")
    for volume in VOLUMES:
        node.check("luksctl", "keys", "rotate", volume, "--slot", "0")
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
