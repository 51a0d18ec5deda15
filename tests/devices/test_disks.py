"""The Disks port: what is put together of more than one look at the machine."""

from __future__ import annotations

from luksctl.devices.disks import SystemDisks
from luksctl.devices.find import Finder
from luksctl.errors import DeviceError
from luksctl.model.config import Settings
from luksctl.model.header import Copies, HeaderCopies
from luksctl.model.observed import Mapping
from luksctl.model.probe import Signature
from tests.devices.fake_tree import FakeTree

LUKS = "CRYPT-LUKS2-0123-luks2-STATE"


def disks(kernel: FakeTree) -> SystemDisks:
    """Return the disks of a machine on which no mapping can be read."""

    def probe(path: str) -> Signature | None:
        raise DeviceError(f"libblkid cannot read {path}", operation="probe")

    return SystemDisks(
        Settings(),
        kernel.tree,
        Finder(kernel.tree, kernel.listing),
        read_copies=lambda _pread, _size: HeaderCopies(Copies.NONE),
        probe=probe,
        run_dir=f"{kernel.base}/run",
    )


def test_a_mapping_that_cannot_be_read_is_there_all_the_same(installed: FakeTree) -> None:
    """Its name and what it stands on are known, which is all that a reset needs; and why nothing else is."""
    installed.add_dm("dm-0", "253:0", "luks2-STATE", LUKS, ("sda2",))
    path = f"{installed.roots.dev}/mapper/luks2-STATE"
    expected = Mapping("luks2-STATE", path, installed.node("sda2"), problem=f"libblkid cannot read {path}")
    assert disks(installed).mapping("luks2-STATE") == expected
    assert disks(installed).mapping("luks2-EPHEMERAL") is None
