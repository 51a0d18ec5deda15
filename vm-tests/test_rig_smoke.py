"""The rig itself: a guest boots, answers, comes back, and its disks keep what it handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.errors import CommandFailed
from rig.spec import MachineSpec, unit

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
