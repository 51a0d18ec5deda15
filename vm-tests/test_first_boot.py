"""A machine with a blank disk and one YAML file boots, encrypts, mounts, and does it again at every boot by itself."""

from __future__ import annotations

from collections.abc import Callable

from nodes import mounted_from, node_spec, report
from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import MachineSpec

MARKER = b"a sentence that must never lie on the disk in clear"


def test_first_boot_formats_and_the_second_opens(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """The config in /etc/luksctl formats both volumes; after a reboot they open again, and the data is there."""
    disk = disks.talos()
    node = machine(node_spec(MachineSpec(disks=(disk,))))
    print(node.start())
    print(node.journal("-b", "-u", "luksctl*"))
    print(node.run("cat /run/luksctl/report/*.json; ls -la /run/luksctl /run/luksctl/*").stdout)
    print(node.run("systemctl --failed; findmnt; systemctl list-jobs").stdout)
    assert mounted_from(node, "/system/state") == "/dev/mapper/luks2-STATE"
    assert mounted_from(node, "/system/ephemeral") == "/dev/mapper/luks2-EPHEMERAL"
    node.write_file("/system/ephemeral/marker", MARKER)
    node.write_file("/system/state/marker", MARKER)
    node.reboot()
    assert node.read_file("/system/ephemeral/marker") == MARKER
    assert report(node, "EPHEMERAL")["opened_by"] == "with slot 0 (nodeID)"
    node.poweroff()
    assert not disk.contains(MARKER)
