"""Who stands on a device: active dm-crypt mappings and what is below them, mounts, swap, loop devices."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from luksctl.devices.tree import BlockDevice, BlockTree
from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.model.observed import Mapping
from luksctl.model.probe import Device

_CRYPT_PREFIX: Final = "CRYPT-"


def mapping(mapped_name: str, tree: BlockTree) -> Mapping | None:
    """Return the active mapping of that name, or None.

    `backing` is the device below it, as `Finder` names devices: through libcryptsetup's own helper mappings, and for
    an image file the file behind the loop device that the library attached. It is empty where the mapping has no
    table yet, and lists all of them where there are several. DeviceError where the name belongs to no dm-crypt device.
    """
    for name in tree.names():
        if tree.attribute(name, "dm/name") != mapped_name:
            continue
        kind = tree.attribute(name, "dm/uuid") or ""
        if not kind.startswith(_CRYPT_PREFIX):
            raise DeviceError(
                f"/dev/mapper/{mapped_name} is not a dm-crypt device (its device-mapper uuid is {kind!r})",
                hint=f"dmsetup info {mapped_name}",
            )
        backing = ", ".join(sorted({_path_of(leaf, tree) for leaf in _leaves(name, tree)}))
        return Mapping(mapped_name, f"{tree.roots.dev}/mapper/{mapped_name}", backing)
    return None


def _leaves(name: str, tree: BlockTree) -> Iterator[str]:
    """Yield the devices below a mapping, passing through other dm-crypt ones (re-encryption stacks them)."""
    for slave in tree.slaves(name):
        if (tree.attribute(slave, "dm/uuid") or "").startswith(_CRYPT_PREFIX):
            yield from _leaves(slave, tree)
        else:
            yield slave


def _path_of(name: str, tree: BlockTree) -> str:
    """Return the device's node, or the file behind a loop device that goes away by itself: those the library makes."""
    image = tree.attribute(name, "loop/backing_file")
    if image is not None and tree.attribute(name, "loop/autoclear") == "1":
        return image
    return _node_of(name, tree)


def _node_of(name: str, tree: BlockTree) -> str:
    device = tree.get(name)
    return f"{tree.roots.dev}/{name}" if device is None else device.node


def in_use(device: Device, tree: BlockTree) -> str | None:
    """Return who uses the device (or, of a whole disk, any of its partitions), or None.

    The kernel has the last word: an exclusive open fails where something claims the device, also from another mount
    namespace. The device is opened for reading and closed at once.
    """
    if device.image:
        return _image_in_use(device.path, tree)
    block = tree.at(device.path)
    if block is None:
        return None
    parts = () if block.disk else tree.partitions(block.name)
    family = {block.name: block} | {part.name: part for part in parts}
    return _held(family, tree) or _mounted(family, tree) or _swapped(family, tree) or _claimed(block)


def _held(family: dict[str, BlockDevice], tree: BlockTree) -> str | None:
    for name, block in family.items():
        for holder in tree.holders(name):
            if holder not in family:  # a disk "holds" its partitions on some kernels
                mapped_name = tree.attribute(holder, "dm/name")
                above = f"{holder} ({mapped_name})" if mapped_name else holder
                return f"{above}, which stands on {block.node}"
    return None


def _mounted(family: dict[str, BlockDevice], tree: BlockTree) -> str | None:
    numbers = {block.number: block.node for block in family.values()}
    for number, source, target in tree.mounts():
        node = numbers.get(number)
        if node is None:  # btrfs mounts show a number of their own; their source is the device
            block = tree.at(source) if source.startswith("/") else None
            node = numbers.get(block.number) if block else None
        if node is not None:
            system = " (the running system)" if target == "/" else ""
            return f"the mount of {node} at {target}{system}"
    return None


def _swapped(family: dict[str, BlockDevice], tree: BlockTree) -> str | None:
    numbers = {block.number: block.node for block in family.values()}
    for path in tree.swaps():
        block = tree.at(path)
        if block is not None and block.number in numbers:
            return f"swap on {numbers[block.number]}"
    return None


def _claimed(block: BlockDevice) -> str | None:
    try:
        os.close(os.open(block.node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return f"another program or the kernel, which has {block.node} opened exclusively"
    return None


def _image_in_use(path: str, tree: BlockTree) -> str | None:
    for name in tree.names():
        if tree.attribute(name, "loop/backing_file") == path:
            return f"the loop device {_node_of(name, tree)}"
    if path in tree.swaps():
        return f"swap on {path}"
    return None
