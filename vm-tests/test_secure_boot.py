"""Keys in a TPM where Secure Boot is on and images are signed: new images open by themselves, new firmware heals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from nodes import CHEAP_POLICY, VOLUMES, encrypted, headers, mounted_from, node_spec, quick, report, status
from rig import uki
from rig.disk import Disk, Shelf
from rig.firmware import IMAGES, OPENING, OTHERS, SecureBoot
from rig.image import image
from rig.machine import Machine
from rig.spec import MachineSpec

TPM = "slot: 0, tpm: {checkSecurebootStatusOnEnroll: true}"
STATIC, NODE_ID = "slot: 1, static: {passphrase: the second}", "slot: 1, nodeID: {}"
CONFIG = quick(encrypted("STATE", TPM, STATIC) + encrypted("EPHEMERAL", TPM, NODE_ID) + CHEAP_POLICY)
BY_TPM = "with slot 0 (tpm)"
BY_OTHERS = {"STATE": "with slot 1 (static)", "EPHEMERAL": "with slot 1 (nodeID)"}
WELL, DEGRADED, NEXT_BOOT = 0, 5, 7


class Node:
    """A machine that is switched on with one image after another."""

    def __init__(self, machine: Callable[[MachineSpec], Machine], disk: Disk) -> None:
        self.disk = disk
        self.machine = machine(node_spec(MachineSpec(disks=(disk,), tpm=True), CONFIG))

    def with_image(self, secure_boot: SecureBoot, *words: str) -> MachineSpec:
        """Return what the machine is with an image that says `words` to the kernel: another PCR 11 for other words."""
        return replace(self.machine.spec, secure_boot=secure_boot, cmdline=words)

    def boot(self, spec: MachineSpec) -> None:
        """Boot to the end, both volumes mounted."""
        self.machine.spec = spec
        assert self.machine.start() == "running"
        for volume in VOLUMES:
            assert mounted_from(self.machine, f"/system/{volume.lower()}") == f"/dev/mapper/luks2-{volume}"

    def off(self) -> dict[str, bytes]:
        """Switch it off, everything written, and return the headers."""
        self.machine.check("sync")
        self.machine.cut_power()
        return headers(self.disk)

    def opened_by(self) -> dict[str, str]:
        """Return which key opened each volume."""
        return {volume: report(self.machine, volume)["opened_by"] for volume in VOLUMES}

    def notes(self, volume: str) -> str:
        """Return what the boot had to say about a volume."""
        return "\n".join(report(self.machine, volume)["notes"])

    def preflight(self, signatures: bytes | None = None, *pcrs: str) -> dict[str, bool]:
        """Return for each volume whether its tpm key will open with these signatures and PCR values."""
        given = ["--pcr=" + pcr for pcr in pcrs]
        if signatures is not None:
            self.machine.write_file("/root/new-image.json", signatures)
            given.append("--signature=/root/new-image.json")
        result = self.machine.run("luksctl", "tpm", "preflight", "--json", *given)
        found = json.loads(result.stdout)
        opens = {entry["volume"]: entry["opens"] for entry in found["slots"]}
        assert result.status == found["exitCode"] == (WELL if all(opens.values()) else DEGRADED), result
        return opens


@pytest.mark.usefixtures("secure_boot")
def test_signed_images_and_changed_firmware(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """An image of the same signer opens, one that nobody signed for this does not; and a changed PCR 7 heals itself."""
    node = Node(machine, disks.talos())
    first = node.with_image(SecureBoot(phases=(OPENING,)))
    second = node.with_image(SecureBoot(), "rig.image=second")
    forgotten = node.with_image(SecureBoot(signatures=uki.signatures_of(first, image())), "rig.image=forgotten")

    node.boot(first)
    is_enrolled_with_secure_boot(node)
    foretells_what_each_image_will_do(node, second, forgotten)
    leaves_a_rotation_to_the_next_boot(node)
    noted = node.off()

    node.boot(second)
    opens_by_the_tpm(node)
    sealed = node.off()
    assert sealed["STATE"] != noted["STATE"]
    assert sealed["EPHEMERAL"] == noted["EPHEMERAL"]

    node.boot(forgotten)
    is_opened_by_others_and_says_why(node)
    assert node.off() == sealed

    changed = (IMAGES, OTHERS)
    node.boot(replace(first, secure_boot=SecureBoot(allowed=changed, phases=(OPENING,))))
    is_sealed_anew_by_itself_unless_a_node_id_key_opened(node)
    healed = node.off()
    assert healed["STATE"] != sealed["STATE"]

    node.boot(replace(second, secure_boot=SecureBoot(allowed=changed)))
    assert node.opened_by() == {"STATE": BY_TPM, "EPHEMERAL": BY_OTHERS["EPHEMERAL"]}
    is_sealed_anew_as_somebody_asked_before(node, healed)
    is_sealed_anew_at_once_where_every_phase_is_signed(node)


def is_enrolled_with_secure_boot(node: Node) -> None:
    """Check that the firmware really enforces it, and that both keys of both volumes were made."""
    variables = "/sys/firmware/efi/efivars"
    flags = {
        name: node.machine.check("sh", "-c", f"od -An -tu1 -j4 {variables}/{name}-*").strip()
        for name in ("SecureBoot", "SetupMode")
    }
    assert flags == {"SecureBoot": "1", "SetupMode": "0"}
    assert status(node.machine)["exitCode"] == WELL
    for volume in VOLUMES:
        assert report(node.machine, volume)["in_sync"] is True, node.machine.journal("-n", "60")


def foretells_what_each_image_will_do(node: Node, second: MachineSpec, forgotten: MachineSpec) -> None:
    """Check what preflight says of the images that will be booted, before they are."""
    both, neither = dict.fromkeys(VOLUMES, True), dict.fromkeys(VOLUMES, False)
    assert node.preflight() == both
    for spec, expected in ((second, both), (forgotten, neither)):
        value = uki.pcr_value(uki.measured(spec, image()), OPENING)
        assert node.preflight(uki.signatures_of(spec, image()), f"11={value.hex()}") == expected
    assert node.preflight(b'{"sha256": []}') == neither


def leaves_a_rotation_to_the_next_boot(node: Node) -> None:
    """Check that past the one phase that was signed nothing is at fault, and a new key is left to the next boot."""
    checked = node.machine.check("luksctl", "check")
    assert "only early in a boot" in checked
    assert "PCR 11 is after ready, and signed is it after leave-initrd" in checked
    asked = node.machine.run("luksctl", "keys", "rotate", "STATE", "--slot", "0")
    assert asked.status == NEXT_BOOT, asked


def opens_by_the_tpm(node: Node) -> None:
    """Check that no other key was needed, and that nothing is left to do."""
    assert node.opened_by() == dict.fromkeys(VOLUMES, BY_TPM)
    assert status(node.machine)["exitCode"] == WELL


def is_sealed_anew_at_once_where_every_phase_is_signed(node: Node) -> None:
    """Check that a key is made while the node is up, where its phase is signed, too."""
    node.machine.check("luksctl", "keys", "rotate", "STATE", "--slot", "0")
    assert node.preflight() == dict.fromkeys(VOLUMES, True)
    assert status(node.machine)["exitCode"] == WELL


def is_opened_by_others_and_says_why(node: Node) -> None:
    """Check that both volumes needed their second keys, and that the phase of the boot is named."""
    assert node.opened_by() == BY_OTHERS
    for volume in VOLUMES:
        notes = node.notes(volume)
        assert "no signature fits what PCR 11 holds" in notes, notes
        assert "not signed for any phase, and PCR 11 is after leave-initrd" in notes, notes
    assert status(node.machine)["exitCode"] == DEGRADED
    assert "no signature fits what PCR 11 holds" in node.machine.run("luksctl", "doctor").stdout


def is_sealed_anew_by_itself_unless_a_node_id_key_opened(node: Node) -> None:
    """Check that the code being vouched for is enough where a static key opened, and not where a nodeID key did."""
    assert node.opened_by() == BY_OTHERS
    assert "sealed anew, because" in node.machine.journal("-u", "luksctl-*")
    assert report(node.machine, "STATE")["in_sync"] is True, node.notes("STATE")
    notes = node.notes("EPHEMERAL")
    assert "PCR 7 is " in notes, notes
    assert "only a nodeID key opened the volume" in notes, notes
    assert "luksctl keys rotate EPHEMERAL --slot 0" in notes, notes
    assert node.preflight() == {"STATE": True, "EPHEMERAL": False}
    assert status(node.machine)["exitCode"] == DEGRADED
    asked = node.machine.run("luksctl", "keys", "rotate", "EPHEMERAL", "--slot", "0")
    assert asked.status == NEXT_BOOT, asked


def is_sealed_anew_as_somebody_asked_before(node: Node, noted: dict[str, bytes]) -> None:
    """Check that a person's word, given past the one phase that was signed, counts at the next boot of that machine."""
    assert report(node.machine, "EPHEMERAL")["in_sync"] is True, node.notes("EPHEMERAL")
    assert "EPHEMERAL, slot 0: sealed anew, because" in node.machine.journal("-u", "luksctl-*")
    assert node.preflight() == dict.fromkeys(VOLUMES, True)
    node.machine.check("sync")
    found = headers(node.disk)
    assert found["STATE"] == noted["STATE"]
    assert found["EPHEMERAL"] != noted["EPHEMERAL"]
