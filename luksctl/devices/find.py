"""Finding the device of a volume: by GPT partition label, by device path, or as an image file.

The kernel says which partitions there are; the partition table on the disk is read as a second witness. That tells a
second partition of the same label even before the kernel announced it, and a kernel that still uses an older table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from luksctl.devices import uevents
from luksctl.devices.medium import size_of
from luksctl.devices.probing import PartitionListing
from luksctl.devices.tree import BlockDevice, BlockTree
from luksctl.errors import DeviceError
from luksctl.hints import Final, assert_never
from luksctl.model.config import ByDevice, ByImage, ByLabel, Location
from luksctl.model.observed import Ambiguous, Missing
from luksctl.model.probe import Device, PartitionEntry

Found = Device | Missing | Ambiguous

# A device that is there is taken only when udevd has no more events, or after this long: a second disk with the same
# label may be among them.
_SETTLE_S: Final = 10.0


class Finder:
    """Find devices; `listing` reads a disk's GPT, `listen` subscribes to block events."""

    def __init__(self, tree: BlockTree, listing: PartitionListing, listen: uevents.Listen | None = None) -> None:
        self._tree = tree
        self._listing = listing
        self._listen: uevents.Listen = listen or (lambda: uevents.listen(tree.roots))

    def find(self, location: Location, *, timeout_s: float) -> Found:
        """Return the device, waiting up to `timeout_s` for it; 0 looks once and never waits.

        Never call it with a timeout while holding a disk's flock. An image file is not waited for. `Ambiguous` names
        every candidate; `Missing` says what was sought and, where it is known, why it does not count.
        """
        match location:
            case ByImage(path):
                return _image(path)
            case ByDevice(path):
                return self._await(lambda: self._by_path(path), timeout_s)
            case ByLabel(label, disk):
                return self._await(lambda: self._by_label(label, disk), timeout_s)
            case _:
                assert_never(location)

    def _await(self, look: Callable[[], Found], timeout_s: float) -> Found:
        found = look()
        if timeout_s <= 0 or (not isinstance(found, Missing) and not self._busy()):
            return found
        deadline = time.monotonic() + timeout_s
        settled_by = None
        with self._listen() as events:
            while True:
                found, now = look(), time.monotonic()
                if isinstance(found, Missing):
                    settled_by = None
                elif settled_by is None:
                    settled_by = min(deadline, now + _SETTLE_S)
                if settled_by is not None and (now >= settled_by or not self._busy()):
                    return found
                if now >= deadline:
                    return found
                events.wait((settled_by or deadline) - now)

    def _busy(self) -> bool:
        return uevents.udev_busy(self._tree.roots)

    def _by_path(self, path: str) -> Found:
        device = self._tree.at(path)
        if device is None:
            if os.path.exists(path):
                raise DeviceError(f"{path} is not a block device", hint="name an image file with `image:` instead")
            return Missing(f"block device {path}")
        known_as = self._tree.attribute(device.name, "dm/uuid") or path
        if not device.disk:
            return Device(device.node, device.size_bytes, known_as=known_as)
        sought, disk = f"block device {path}", self._disk_node(device)
        try:
            entries = self._listing(disk)
        except (DeviceError, OSError) as error:
            return Missing(f"{sought}: the partition table of {disk} cannot be read: {error}")
        if not entries and not device.label:  # not a GPT: the path alone says which partition is meant
            return Device(device.node, device.size_bytes, disk=disk, known_as=known_as)
        return _partition(device, disk, entries, sought)

    def _by_label(self, label: str, disk: str | None) -> Found:
        sought = f"a partition labelled {label!r}" + (f" on {disk}" if disk else "")
        only = None
        if disk is not None:
            only = self._tree.at(disk)
            if only is None:
                return Missing(f"{sought}: no such disk")
        hits = [
            device
            for device in self._tree.labelled(label)
            if device.disk and (only is None or device.disk == only.name)
        ]
        nodes = {hit.disk: self._disk_node(hit) for hit in hits}
        try:
            tables = {name: self._listing(node) for name, node in nodes.items()}
        except (DeviceError, OSError) as error:
            return Missing(f"{sought}: {hits[0].node} is there, but its partition table cannot be read: {error}")
        twins = {(hit.disk, hit.partition): f"{hit.node} on {nodes[hit.disk]}" for hit in hits}
        for name, entries in tables.items():  # the kernel may not have announced all of them yet
            for entry in entries:
                if entry.name == label:
                    twins.setdefault((name, entry.number), f"partition {entry.number} on {nodes[name]}")
        if len(twins) > 1:
            named = tuple(twins[key] for key in sorted(twins))
            return Ambiguous(named, f"{len(named)} partitions are labelled {label!r}")
        if not hits:
            return Missing(sought)
        return _partition(hits[0], nodes[hits[0].disk], tables[hits[0].disk], sought)

    def _disk_node(self, device: BlockDevice) -> str:
        disk = self._tree.get(device.disk)
        return f"{self._tree.roots.dev}/{device.disk}" if disk is None else disk.node


def same_disk(devices: Mapping[str, Device]) -> Ambiguous | None:
    """Return Ambiguous when partitions that were sought by label alone lie on different disks.

    `devices` are volume → device; leave out those whose settings name a disk, a device or an image, since there the
    operator has decided. Devices without a disk (image files, whole disks) do not count.
    """
    disks = {device.disk for device in devices.values() if device.disk}
    if len(disks) < 2:
        return None
    named = tuple(f"{volume} is {device.path} on {device.disk}" for volume, device in devices.items() if device.disk)
    return Ambiguous(named, "the volumes lie on different disks and the settings name none of them")


def _partition(device: BlockDevice, disk: str, entries: tuple[PartitionEntry, ...], sought: str) -> Found:
    """Return the partition with its GPT UUID, provided that the kernel and the disk agree on where it lies."""
    place = (device.partition, device.offset_bytes, device.size_bytes)
    for entry in entries:
        if (entry.number, entry.offset_bytes, entry.size_bytes) == place:
            return Device(device.node, device.size_bytes, partuuid=entry.uuid.lower(), disk=disk)
    return Missing(f"{sought}: the kernel's table of {disk} is not the one on the disk (reboot, or run partprobe)")


def _image(path: str) -> Found:
    """Return the image file; its real path, so that locks and loop devices name the same file."""
    if not os.path.exists(path):
        return Missing(f"image file {path}")
    if not os.path.isfile(path):
        raise DeviceError(f"{path} is not a regular file", hint="name a block device with `device:` instead")
    return Device(os.path.realpath(path), size_of(path), image=True)
