"""What the kernel says about block devices: /sys, /proc and /dev, read as text.

Devices come and go while they are listed: whatever vanishes between two reads counts as not there. The roots can be
moved, so that tests work on a tree of plain files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator

from luksctl.hints import Final
from luksctl.value import frozen

# /sys counts in these, whatever the sectors of the device are.
SYSFS_SECTOR_BYTES: Final = 512

_OCTAL: Final = r"\\([0-7]{3})"
# More than any file of /sys has; mountinfo and swaps take several reads.
_READ_BYTES: Final = 65536


@frozen
class Roots:
    """Where the kernel's trees are mounted."""

    sys: str = "/sys"
    proc: str = "/proc"
    dev: str = "/dev"
    run: str = "/run"


@frozen
class BlockDevice:
    """One block device as the kernel sees it.

    `name` is the kernel's (vda2, dm-0), `number` is major:minor, `node` the /dev path. `disk` is the kernel's name of
    the whole disk, empty where this is one; `partition` is then 0. `label` is the GPT name in the kernel's 7-bit form.
    """

    name: str
    number: str
    node: str
    size_bytes: int
    read_only: bool = False
    disk: str = ""
    partition: int = 0
    offset_bytes: int = 0
    label: str = ""


def device_number(path: str) -> str | None:
    """Return major:minor of the block device node at `path` (links followed), or None for anything else."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


class BlockTree:
    """Read block devices from sysfs."""

    def __init__(self, roots: Roots | None = None, number_of: Callable[[str], str | None] = device_number) -> None:
        self.roots = roots or Roots()
        self._number_of = number_of

    def names(self) -> tuple[str, ...]:
        """Return the kernel's names of all block devices, sorted."""
        return self._list(f"{self.roots.sys}/class/block")

    def all(self) -> Iterator[BlockDevice]:
        """Yield every block device that is still there when its turn comes."""
        for name in self.names():
            device = self.get(name)
            if device is not None:
                yield device

    def get(self, name: str) -> BlockDevice | None:
        """Return the block device with that kernel name, or None where there is none."""
        number = self.attribute(name, "dev")
        uevent = dict(line.partition("=")[::2] for line in (self.attribute(name, "uevent") or "").splitlines())
        size = self.attribute(name, "size")
        if not number or not size or "DEVNAME" not in uevent:
            return None
        partition = int(self.attribute(name, "partition") or 0)
        return BlockDevice(
            name=name,
            number=number,
            node=f"{self.roots.dev}/{uevent['DEVNAME']}",
            size_bytes=int(size) * SYSFS_SECTOR_BYTES,
            read_only=self.attribute(name, "ro") == "1",
            disk=self._parent(name) if partition else "",
            partition=partition,
            offset_bytes=int(self.attribute(name, "start") or 0) * SYSFS_SECTOR_BYTES,
            label=uevent.get("PARTNAME", ""),
        )

    def labelled(self, label: str) -> Iterator[BlockDevice]:
        """Yield the partitions with that GPT name; of all others only one file is read."""
        wanted = f"PARTNAME={label}"
        for name in self.names():
            if wanted in (self.attribute(name, "uevent") or "").splitlines():
                device = self.get(name)
                if device is not None and device.label == label:
                    yield device

    def at(self, path: str) -> BlockDevice | None:
        """Return the block device whose node `path` is or links to, or None."""
        number = self._number_of(path)
        if number is None:
            return None
        directory = f"{self.roots.sys}/dev/block/{number}"
        if not os.path.exists(directory):
            return None
        return self.get(os.path.basename(os.path.realpath(directory)))

    def partitions(self, disk: str) -> tuple[BlockDevice, ...]:
        """Return the partitions that the kernel sees on the disk with that kernel name."""
        return tuple(device for device in self.all() if device.disk == disk)

    def holders(self, name: str) -> tuple[str, ...]:
        """Return the kernel names of the devices stacked on `name` (device-mapper, md, bcache)."""
        return self._list(f"{self.roots.sys}/class/block/{name}/holders")

    def slaves(self, name: str) -> tuple[str, ...]:
        """Return the kernel names of the devices that `name` is stacked on."""
        return self._list(f"{self.roots.sys}/class/block/{name}/slaves")

    def attribute(self, name: str, file: str) -> str | None:
        """Return the text of a file in the device's sysfs directory without the last newline, or None."""
        return self._read(f"{self.roots.sys}/class/block/{name}/{file}")

    def mounts(self) -> Iterator[tuple[str, str, str]]:
        """Yield major:minor, source and mount point of every mount in this namespace (proc(5), mountinfo)."""
        for line in (self._read(f"{self.roots.proc}/self/mountinfo") or "").splitlines():
            head, _, tail = line.partition(" - ")
            fields, source = head.split(" "), tail.split(" ")
            if len(fields) > 4 and len(source) > 1:
                yield fields[2], unescape(source[1]), unescape(fields[4])

    def swaps(self) -> tuple[str, ...]:
        """Return the paths of the devices and files in use as swap (proc(5), swaps)."""
        lines = (self._read(f"{self.roots.proc}/swaps") or "").splitlines()[1:]
        return tuple(unescape(line.split()[0]) for line in lines if line.strip())

    def _parent(self, name: str) -> str:
        return os.path.basename(os.path.dirname(os.path.realpath(f"{self.roots.sys}/class/block/{name}")))

    def _list(self, directory: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(os.listdir(directory)))
        except OSError:
            return ()

    def _read(self, path: str) -> str | None:
        # Dozens of files are read while a boot is timed: a file object would ask the kernel for more than the bytes.
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                pieces = [os.read(fd, _READ_BYTES)]
                while pieces[-1]:
                    pieces.append(os.read(fd, _READ_BYTES))
            finally:
                os.close(fd)
        except OSError:
            return None
        return b"".join(pieces).decode("utf-8", "surrogateescape").removesuffix("\n")


def unescape(text: str) -> str:
    r"""Return a field of /proc/self/mountinfo or /proc/swaps as it was before the kernel wrote \040 for a space."""
    return re.sub(_OCTAL, lambda match: chr(int(match[1], 8)), text) if "\\" in text else text
