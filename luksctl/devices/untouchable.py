"""What is never erased, whoever asks: devices the running system stands on, and those that take no writes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from luksctl.devices.tree import BlockTree
from luksctl.hints import Final
from luksctl.model.probe import Device, Hardware

# Where a running system is mounted from; its other mounts show as uses of a device.
_SYSTEM_MOUNTS: Final = frozenset({"/", "/usr", "/boot", "/boot/efi", "/efi"})
# Where the kernel shows the serial number of a disk: virtio, NVMe and SCSI.
_SERIALS: Final = ("serial", "device/serial", "device/vpd_pg80")


def why_untouchable(device: Device, tree: BlockTree) -> str | None:
    """Say why the device may not be erased in any case, or return None."""
    if device.image:
        return None if os.access(device.path, os.W_OK) else f"{device.path} is read-only"
    block = tree.at(device.path)
    if block is None:
        return None
    if block.read_only:
        return f"{block.node} is read-only"
    family = {block.name} | {part.name for part in tree.partitions(block.name)}
    for name, target in _system_devices(tree):
        if name in family:
            return f"the system runs from {tree.roots.dev}/{name}, which is mounted at {target}"
    return None


def hardware(device: Device, tree: BlockTree) -> Hardware:
    """Return what the kernel knows of the disk that the device is on; empty texts where it does not say."""
    block = tree.at(device.path)
    if device.image or block is None:
        return Hardware()
    disk = block.disk or block.name
    found = (_text(tree.attribute(disk, name)) for name in _SERIALS)
    return Hardware(
        model=_text(tree.attribute(disk, "device/model")), serial=next((each for each in found if each), "")
    )


def _system_devices(tree: BlockTree) -> Iterator[tuple[str, str]]:
    """Yield the kernel's names of what the system's mounts stand on, down to the disks' partitions."""
    numbers = {block.number: block.name for block in tree.all()}
    for number, source, target in tree.mounts():
        if target not in _SYSTEM_MOUNTS:
            continue
        name = numbers.get(number)
        if name is None:  # btrfs mounts show a number of their own; their source is the device
            block = tree.at(source) if source.startswith("/") else None
            name = None if block is None else block.name
        if name is not None:
            yield from ((each, target) for each in _below(name, tree))


def _below(name: str, tree: BlockTree) -> Iterator[str]:
    yield name
    for slave in tree.slaves(name):
        yield from _below(slave, tree)


def _text(value: str | None) -> str:
    """Return a sysfs attribute as text; the SCSI page has a binary head."""
    return "".join(character for character in value or "" if character.isprintable()).strip()
