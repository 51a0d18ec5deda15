"""The rig itself: a guest boots, answers, comes back, and its disks keep what it handed over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rig.disk import BadSector, Disk
from rig.errors import CommandFailed, LostVM, NoAnswer
from rig.firmware import OTHERS, SecureBoot
from rig.spec import MachineSpec, unit
from rig.writelog import Kind, read_log, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.disk import Shelf
    from rig.machine import Machine

MARKER = b"a line that the disk keeps"
READ_CREDENTIAL = """[Service]
Type=oneshot
LoadCredential=rig.note
ExecStart=cp ${CREDENTIALS_DIRECTORY}/rig.note /run/note
"""


def test_disk_content_survives_reboot_and_power_cut(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """What was synced to a partition is there after a reboot, after a power cut, and for the host to read."""
    disk = disks.talos()
    before = disk.sha256("EPHEMERAL")
    guest = machine(MachineSpec(disks=(disk,)))
    assert guest.start() == "running"
    first_boot = guest.boot_id
    state = "/dev/disk/by-partlabel/STATE"
    guest.check("dd", f"of={state}", "conv=fsync", stdin=MARKER)

    assert guest.reboot() == "running"
    assert guest.boot_id != first_boot
    assert guest.check("head", "-c", str(len(MARKER)), state).encode() == MARKER

    guest.cut_power()
    assert not guest.is_on
    assert disk.contains(MARKER)
    assert disk.read(disk.partition("STATE").offset_bytes, len(MARKER)) == MARKER
    assert disk.sha256("EPHEMERAL") == before

    guest.start()
    assert guest.check("head", "-c", str(len(MARKER)), state).encode() == MARKER


def test_files_credentials_and_identity_reach_the_guest(machine: Callable[[MachineSpec], Machine]) -> None:
    """Files lie in the root before systemd reads its units, credentials reach a unit, SMBIOS says the given UUID."""
    uuid = "0c0ffee0-0000-4000-8000-123456789abc"
    files = {"/etc/luksctl/machine.yaml": "version: v1alpha1\n"}
    note = b"bytes, \0 and commas"
    reader = unit("read-note.service", READ_CREDENTIAL, "multi-user.target")
    guest = machine(MachineSpec(uuid=uuid, files=files | reader, credentials={"rig.note": note}))
    guest.start()
    assert guest.check("cat", "/sys/class/dmi/id/product_uuid").strip() == uuid
    assert guest.check("cat", "/etc/luksctl/machine.yaml") == "version: v1alpha1\n"
    assert guest.read_file("/run/note") == note
    with pytest.raises(CommandFailed, match="status 3"):
        guest.check("sh -c 'exit 3'")


def test_tpm_network_and_writable_layer_last_over_power_cuts(machine: Callable[[MachineSpec], Machine]) -> None:
    """The TPM and the network are there, and what was written to /etc outlives a power cut with root_upper="disk"."""
    guest = machine(MachineSpec(tpm=True, network=True, root_upper="disk"))
    guest.start()
    guest.check("test -c /dev/tpmrm0")
    guest.wait_until("ip -4 -brief address show eth0 | grep 10.0.2.15/24")
    guest.write_file("/etc/kept", "kept")
    guest.cut_power()
    guest.start(until="agent")
    assert guest.read_file("/etc/kept") == b"kept"
    guest.reset(until="agent")
    assert guest.read_file("/etc/kept") == b"kept"
    guest.poweroff()
    assert not guest.is_on


@pytest.mark.usefixtures("secure_boot")
def test_firmware_starts_nothing_that_others_signed(machine: Callable[[MachineSpec], Machine]) -> None:
    """With Secure Boot on, an image that is whole in all else ends in the firmware, which has no shell either."""
    guest = machine(MachineSpec(tpm=True, secure_boot=SecureBoot(signed_by=OTHERS)))
    guest.start_in_vain("No bootable option or device was found")
    assert "Security Violation" in guest.console()


def test_write_log_replays_to_the_disk_as_it_is(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """All logged writes make the disk that the guest left; fewer make the disk before them; each flush is listed."""
    disk = disks.talos(log_writes=True)
    guest = machine(MachineSpec(disks=(disk,)))
    guest.start()
    state = "/dev/disk/by-partlabel/STATE"
    guest.check(f"mkfs.ext4 -q {state}; sync; blkdiscard -f -o 52428800 -l 1048576 {state}")
    formatted = len(read_log(disk.log_path).entries)
    guest.check("dd", f"of={state}", "conv=fsync", stdin=MARKER)
    guest.cut_power()

    log = read_log(disk.log_path)
    whole = Disk(replay(disk.base_path, log, len(log.entries), disks.directory / "whole.img"))
    assert whole.sha256() == disk.sha256()
    before = Disk(replay(disk.base_path, log, formatted, disks.directory / "before.img"))
    assert not before.contains(MARKER)
    assert {entry.kind for entry in log.entries} == {Kind.WRITE, Kind.FLUSH, Kind.DISCARD}
    partition = disk.partition("STATE")
    assert log.touching(partition.offset_bytes, partition.size_bytes)
    assert not log.touching(disk.partition("EPHEMERAL").offset_bytes, 1)


def test_plugged_disk_and_bad_sector(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """A disk appears while the guest runs, and a sector said to be bad fails there and nowhere else."""
    guest = machine(MachineSpec())
    guest.start()
    bad = replace(disks.blank("late", 64), bad_sectors=(BadSector(8192, "write"),))
    guest.plug(bad)
    write = ("dd", "if=/dev/urandom", "of=/dev/disk/by-id/virtio-late", "oflag=direct", "count=1")
    assert "Input/output error" in guest.run(*write, "seek=8192").stderr
    guest.check(*write, "seek=8193")


def test_restored_guests_have_their_disks_and_files_and_different_randomness(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """Two guests from one saved memory work on their own disks, draw other random bytes, and reboot like any guest."""
    drawn = []
    for number in (1, 2):
        disk = disks.talos(f"disk{number}")
        guest = machine(MachineSpec(disks=(disk,), files={"/etc/number": str(number)}))
        guest.restore()
        assert guest.read_file("/etc/number") == str(number).encode()
        state = "/dev/disk/by-partlabel/STATE"
        guest.check("dd", f"of={state}", "conv=fsync", stdin=MARKER)
        drawn.append(guest.check("head -c 16 /dev/urandom | od -An -tx1"))
        if number == 2:
            guest.reboot()
            assert guest.check("head", "-c", str(len(MARKER)), state).encode() == MARKER
            assert guest.read_file("/etc/number") == b"2"
        guest.cut_power()
        assert disk.contains(MARKER)
    assert drawn[0] != drawn[1]


def test_guest_that_dies_or_stalls_is_not_a_failed_command(machine: Callable[[MachineSpec], Machine]) -> None:
    """A command that takes too long in a living guest, and a guest that panics, are two errors of their own."""
    guest = machine(MachineSpec())
    guest.restore()
    with pytest.raises(NoAnswer, match="not done after"):
        guest.run("sleep", "3600", timeout_s=1)
    assert guest.check("echo", "still here") == "still here\n"
    with pytest.raises(LostVM, match="stopped by itself"):
        guest.run("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 60")
