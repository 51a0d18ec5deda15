"""`luksctl install DISK`: a GPT with META, STATE and EPHEMERAL on a disk that is blank, or erased by name.

Order of writes, and what a cut leaves:
1. (only with `erase`) zeros over both ends of the disk. Cut: a disk that may still show its old backup table; the old
   content counts as gone, since the operator named this disk.
2. (only with `erase`) zeros over the ends of the old partitions and of the new ones. Cut: a disk without a table.
3. The table: backup copy, primary copy, protective MBR (the order of libfdisk). Cut: a torn table.
After each of these the next run either finds a blank disk and goes on, or refuses and names `--erase` again. Until the
table is complete no partition has one of our labels, so nothing can take a half-made disk for a volume.

Erasing makes everything that was there unreachable for luksctl; it is no secure erase of the whole disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable

from luksctl.devices import uevents
from luksctl.devices.erase import erase as write_zeros
from luksctl.devices.layout import LINUX_FILESYSTEM_TYPE, PlannedPartition, layout
from luksctl.devices.locks import device_lock
from luksctl.devices.mapping import in_use
from luksctl.devices.medium import flush, open_device, open_medium, sector_size_of, size_of
from luksctl.devices.probing import PartitionListing, SignatureProbe
from luksctl.devices.programs import Program, locate, run
from luksctl.devices.tree import BlockTree
from luksctl.errors import Busy, DeviceError, DeviceMissing, NotBlank, Refused, UsageError
from luksctl.hints import Final
from luksctl.model.probe import Device, PartitionEntry, Range, blank_ranges
from luksctl.value import frozen

SFDISK: Final = Program("sfdisk", "fdisk")
_SFDISK_TIMEOUT_S: Final = 60.0
_BLKRRPART: Final = 0x125F  # linux/fs.h, _IO(0x12, 95): read the partition table again
_REREAD_S: Final = 5.0
_NODES_S: Final = 30.0


@frozen
class Installed:
    """The disk as it is after `install`: its GPT UUID and its three partitions, read back from it."""

    disk: str
    disk_uuid: str
    partitions: tuple[PartitionEntry, ...]


@frozen
class Installer:
    """Partition disks and image files; `signature` and `listing` are libblkid's."""

    tree: BlockTree
    signature: SignatureProbe
    listing: PartitionListing
    lock_timeout_s: float
    progress: Callable[[str], None] = lambda _: None

    def plan(self, disk: str, *, erase: str | None = None) -> tuple[PlannedPartition, ...]:
        """Return what `install` would make of `disk`; writes nothing, and refuses whatever `install` refuses.

        Refused: in use (also by the running system), read-only, too small; NotBlank: anything on it, unless `erase`
        names this very disk. UsageError: not a whole disk, or `erase` names another one. DeviceMissing: no such disk.
        """
        return self._check(self._device(disk), erase)

    def install(self, disk: str, *, erase: str | None = None) -> Installed:
        """Write the table and return it as read back; errors as `plan`, Busy, and DeviceError where a write fails.

        When it returns, the kernel knows the partitions, and each is Blank. Cuts: see the top of this module.
        """
        device = self._device(disk)
        with device_lock(device, timeout_s=self.lock_timeout_s):
            planned = self._check(device, erase)
            if erase is not None:
                self.progress(f"erasing {device.path}")
                self._erase(device, planned)
            self.progress(f"writing the partition table of {device.path}")
            installed = self._write(device, planned)
            if not device.image:
                reread(device.path)
        if not device.image:
            self._await_nodes(device, planned)
        return installed

    def _device(self, disk: str) -> Device:
        block = self.tree.at(disk)
        if block is None:
            if os.path.isfile(disk):
                return Device(os.path.realpath(disk), size_of(disk), image=True)
            if os.path.exists(disk):
                raise UsageError(f"{disk} is neither a block device nor an image file", operation="install")
            raise DeviceMissing(f"{disk} does not exist", operation="install", hint="lsblk")
        if block.disk:
            parent = self.tree.get(block.disk)
            whole = block.disk if parent is None else parent.node
            raise UsageError(f"{disk} is a partition", operation="install", hint=f"luksctl install {whole}")
        if self.tree.attribute(block.name, "dm/name") is not None:
            raise UsageError(f"{disk} is a device-mapper device; the kernel reads no partitions from it")
        return Device(block.node, block.size_bytes)

    def _check(self, device: Device, erase: str | None) -> tuple[PlannedPartition, ...]:
        """Refuse in the order of what helps most: what no flag changes comes before what `erase` would allow."""
        if erase is not None and os.path.realpath(erase) != os.path.realpath(device.path):
            raise UsageError(f"--erase names {erase}, the disk to install is {device.path}", operation="install")
        if self._read_only(device):
            raise Refused(f"{device.path} is read-only", operation="install")
        holder = in_use(device, self.tree)
        if holder is not None:
            raise Refused(f"{device.path} is in use by {holder}", operation="install")
        planned = layout(device.size_bytes, sector_size_of(device.path))
        locate(SFDISK)  # found out before anything is erased
        content = None if erase is not None else self._content(device, planned)
        if content is not None:
            raise NotBlank(
                f"{device.path} is not blank: {content}",
                operation="install",
                hint=f"luksctl install {device.path} --erase {device.path}   (destroys everything on it)",
            )
        return planned

    def _read_only(self, device: Device) -> bool:
        if device.image:
            return not os.access(device.path, os.W_OK)
        block = self.tree.at(device.path)
        return block is not None and block.read_only

    def _content(self, device: Device, planned: tuple[PlannedPartition, ...]) -> str | None:
        """Say what is on the disk, or None for a disk whose ends, and the ends of every partition to be, are zero."""
        entries = self.listing(device.path)
        if entries:
            return "partitions " + ", ".join(entry.name or str(entry.number) for entry in entries)
        known = self.tree.at(device.path)
        if known is not None and self.tree.partitions(known.name):
            return "the kernel sees partitions on it"
        signature = self.signature(device.path)
        if signature is not None:
            return signature.type or "contradicting signatures"
        with open_medium(device.path) as medium:
            offset = medium.first_nonzero(blank_ranges(0, device.size_bytes) + _ends(planned))
        return None if offset is None else f"data at byte {offset} that no known signature explains"

    def _erase(self, device: Device, planned: tuple[PlannedPartition, ...]) -> None:
        old = tuple(
            part
            for entry in self.listing(device.path)
            if entry.offset_bytes + entry.size_bytes <= device.size_bytes
            for part in blank_ranges(entry.offset_bytes, entry.size_bytes)
        )
        write_zeros(device.path, blank_ranges(0, device.size_bytes))
        write_zeros(device.path, old + _ends(planned))

    def _write(self, device: Device, planned: tuple[PlannedPartition, ...]) -> Installed:
        disk_uuid = str(uuid.uuid4())
        wanted = tuple(
            PartitionEntry(p.number, p.name, str(uuid.uuid4()), LINUX_FILESYSTEM_TYPE, p.offset_bytes, p.size_bytes)
            for p in planned
        )
        script = sfdisk_script(disk_uuid, wanted, sector_size_of(device.path))
        # Neither does it wipe (that is ours, and done), nor tell the kernel (that is ours, and comes after the sync).
        options = ("--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", "--wipe-partitions", "never")
        run([locate(SFDISK), *options, device.path], stdin=script, timeout_s=_SFDISK_TIMEOUT_S)
        flush(device.path)
        written = self.listing(device.path)
        if written != wanted:
            raise DeviceError(f"the table read back from {device.path} is not the one written", operation="install")
        return Installed(device.path, disk_uuid, written)

    def _await_nodes(self, device: Device, planned: tuple[PlannedPartition, ...]) -> None:
        """Wait until the kernel shows the partitions and udevd has made their links; the disk's flock is free again."""
        block = self.tree.at(device.path)
        name = "" if block is None else block.name

        def ready() -> bool:
            seen = self.tree.partitions(name)
            places = {(part.partition, part.offset_bytes, part.size_bytes) for part in seen}
            shown = all((p.number, p.offset_bytes, p.size_bytes) in places for p in planned)
            return shown and all(os.path.exists(part.node) for part in seen)

        def settled() -> bool:
            return ready() and not uevents.udev_busy(self.tree.roots)

        if not uevents.wait_until(settled, _NODES_S, lambda: uevents.listen(self.tree.roots)) and not ready():
            raise DeviceError(
                f"the table is on {device.path}, but the kernel does not show its partitions",
                operation="install",
                hint="reboot, or partprobe",
            )


def sfdisk_script(disk_uuid: str, entries: tuple[PartitionEntry, ...], sector_bytes: int) -> str:
    """Return the script that makes sfdisk write exactly these entries (sfdisk(8), input formats)."""
    lines = ["label: gpt", f"label-id: {disk_uuid}", "unit: sectors", ""]
    for entry in entries:
        place = f"start={entry.offset_bytes // sector_bytes}, size={entry.size_bytes // sector_bytes}"
        lines.append(f'{entry.number} : {place}, type={entry.type_uuid}, uuid={entry.uuid}, name="{entry.name}"')
    return "\n".join(lines) + "\n"


def _ends(planned: tuple[PlannedPartition, ...]) -> tuple[Range, ...]:
    return tuple(part for p in planned for part in blank_ranges(p.offset_bytes, p.size_bytes))


def reread(disk: str) -> None:
    """Make the kernel read the table of a disk; retried while udevd, probing after a write, has a partition open."""
    fd = open_device(disk, os.O_RDONLY)
    deadline = time.monotonic() + _REREAD_S
    try:
        while True:
            try:
                fcntl.ioctl(fd, _BLKRRPART)
            except OSError as error:
                if error.errno == errno.EBUSY and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                kind = Busy if error.errno == errno.EBUSY else DeviceError
                raise kind(
                    f"the table is on {disk}, but the kernel does not read it: {error.strerror}",
                    operation="install",
                    hint="reboot, or partprobe",
                ) from error
            return
    finally:
        os.close(fd)
