"""What wiping a disk asks of the machine: the device at a path, what its table names, and the kernel to forget it."""

from __future__ import annotations

import os
from collections.abc import Callable

from luksctl.devices.medium import open_medium, size_of
from luksctl.devices.partition import reread
from luksctl.devices.probing import PartitionListing
from luksctl.devices.tree import BlockTree
from luksctl.errors import DeviceMissing, UsageError
from luksctl.hints import final
from luksctl.model.header import HeaderCopies
from luksctl.model.probe import Device, PartitionEntry, Range

ReadCopies = Callable[[Callable[[int, int], bytes], int], HeaderCopies]


@final
class WipeHost:
    """What wiping asks of this machine; `listing` is libblkid's, `read_copies` checks LUKS headers."""

    def __init__(self, tree: BlockTree, listing: PartitionListing, read_copies: ReadCopies) -> None:
        self._tree = tree
        self._listing = listing
        self._read_copies = read_copies

    def device_at(self, path: str) -> Device:
        """Return the block device or image file at `path`; DeviceMissing or UsageError where that is none."""
        block = self._tree.at(path)
        if block is None:
            if os.path.isfile(path):
                return Device(os.path.realpath(path), size_of(path), image=True)
            if os.path.exists(path):
                raise UsageError(f"{path} is neither a block device nor an image file", operation="wipe")
            raise DeviceMissing(f"{path} does not exist", operation="wipe", hint="lsblk")
        parent = self._tree.get(block.disk) if block.disk else None
        return Device(block.node, block.size_bytes, disk="" if parent is None else parent.node)

    def entries(self, device: Device) -> tuple[PartitionEntry, ...]:
        """Return the partitions that its table names, () without a GPT."""
        return self._listing(device.path)

    def copies_in(self, device: Device, place: Range) -> HeaderCopies:
        """Read and check both LUKS header copies of what lies in a part of the device."""
        with open_medium(device.path) as medium:
            return self._read_copies(
                lambda offset, length: medium.read(place.offset_bytes + offset, length), place.size_bytes
            )

    def forget_partitions(self, device: Device) -> None:
        """Have the kernel read the table that is gone; nothing for partitions and image files."""
        block = self._tree.at(device.path)
        if block is not None and not block.disk and self._tree.partitions(block.name):
            reread(device.path)
