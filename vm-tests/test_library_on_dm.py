"""luksctl.cryptsetup on a kernel with device-mapper: what image files without root cannot show."""

from __future__ import annotations

from collections.abc import Callable

from rig.disk import Shelf
from rig.machine import Machine
from rig.spec import MachineSpec

SCRIPT = r"""
import os, sys
sys.path.insert(0, "/opt/luksctl")
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.mappings import ActivateFlag, MappingStatus, active_mapping, deactivate, mapping_status
from luksctl.errors import CryptsetupError, SlotPassphraseRejected
from luksctl.devices import medium
from luksctl.model.config import CHEAPEST_KDF
from luksctl.secret import Secret

path, name, plain = "/dev/disk/by-id/virtio-disk", "rig-volume", b"what is written comes back"
key, wrong = Secret.take(b"the right key"), Secret.take(b"the wrong key")
with Device.blank(path) as device, Secret.random(64) as volume_key:
    device.format(FormatParameters(sector_size_bytes=512), volume_key)
    device.keyslots.add_by_volume_key(0, key, volume_key, CHEAPEST_KDF)

def expect(kind, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except kind:
        return
    raise SystemExit(f"{call} raised no {kind}")

with Device.open(path) as device:
    mappings = device.mappings
    expect(SlotPassphraseRejected, mappings.activate_by_passphrase, name, wrong, slot=0)
    flags = ActivateFlag.named(["no_read_workqueue", "no_write_workqueue", "same_cpu_crypt"])
    assert mappings.activate_by_passphrase(name, key, slot=0, flags=flags | ActivateFlag.ALLOW_DISCARDS) == 0
    assert mapping_status(name) in (MappingStatus.ACTIVE, MappingStatus.BUSY)
    expect(CryptsetupError, mappings.activate_by_passphrase, name, key, slot=0)
    seen = active_mapping(name)
    assert seen.flags & flags == flags and seen.flags & ActivateFlag.ALLOW_DISCARDS, seen
    with open(f"/dev/mapper/{name}", "r+b", buffering=0) as mapped:
        mapped.write(plain.ljust(4096, b"."))
        os.fsync(mapped.fileno())
    mappings.suspend(name)
    expect(SlotPassphraseRejected, mappings.resume_by_passphrase, name, wrong, slot=0)
    assert mappings.resume_by_passphrase(name, key, slot=0) == 0
    mappings.suspend(name)
    with device.volume_key(key, slot=0) as volume_key:
        mappings.resume_by_volume_key(name, volume_key)
    whole = active_mapping(name).size_bytes
    with device.volume_key(key, slot=0) as volume_key:
        mappings.resize(name, 64 << 20, volume_key=volume_key)
        assert active_mapping(name).size_bytes == 64 << 20
        mappings.resize(name, volume_key=volume_key)
    assert active_mapping(name).size_bytes == whole
    mappings.deactivate(name)
    assert mapping_status(name) == MappingStatus.INACTIVE

# The checked copy of a header opens the volume, and the header on the medium is never written.
def pread(offset, length):
    return medium.read(path, offset, length)
before = pread(0, 16 << 20)
with Device.from_copy(copy_header(pread, medium.size_of(path)), path) as device:
    with device.volume_key(key, slot=0) as volume_key:
        device.mappings.activate_by_volume_key(name, volume_key, flags=ActivateFlag.READONLY)
with open(f"/dev/mapper/{name}", "rb") as mapped:
    assert mapped.read(len(plain)) == plain
found = active_mapping(name)
assert found.flags & ActivateFlag.READONLY, found
assert os.path.realpath(found.backing) == os.path.realpath(path), found
deactivate(name)
assert pread(0, 16 << 20) == before
print("all of it holds")
"""


def test_open_suspend_resume_resize_close(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """Activation with its flags, by passphrase and by volume key, from the medium and from a copy of the header."""
    node = machine(MachineSpec(disks=(disks.blank(size_mib=160),)))
    node.restore()
    node.write_file("/root/library.py", SCRIPT)
    assert node.check("python3", "-W", "error", "/root/library.py").endswith("all of it holds\n")
