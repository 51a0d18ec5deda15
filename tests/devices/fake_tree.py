"""A /sys, /proc, /dev and /run of plain files, shaped as the kernel shapes them; and readers of real images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luksctl.devices.programs import SEARCH_PATH, Program, run
from luksctl.devices.tree import BlockTree, Roots
from luksctl.model.probe import PartitionEntry, Signature
from luksctl.units import GIB, MIB

SECTOR = 512
BLKID = Program("blkid", "util-linux")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def needs(program: Program) -> pytest.MarkDecorator:
    """Skip, with the package to install, where a program is not there."""
    missing = shutil.which(program.name, path=":".join(SEARCH_PATH)) is None
    return pytest.mark.skipif(missing, reason=f"needs {program.name} (package {program.package})")


def uuid_of(disk: str, number: int) -> str:
    """Return the GPT UUID that the fake table gives a partition."""
    return f"00000000-0000-4000-8000-{sum(disk.encode()):06x}{number:06x}"


class FakeTree:
    """Build block devices; a node in /dev is a file that holds its major:minor."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.tables: dict[str, list[PartitionEntry]] = {}
        for directory in ("sys/class/block", "sys/dev/block", "sys/devices", "proc/self", "dev/mapper", "run/udev"):
            (base / directory).mkdir(parents=True)
        (base / "proc/self/mountinfo").write_text("")
        (base / "proc/swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
        self.roots = Roots(sys=f"{base}/sys", proc=f"{base}/proc", dev=f"{base}/dev", run=f"{base}/run")
        self.tree = BlockTree(self.roots, self._number)

    def _number(self, path: str) -> str | None:
        node = Path(path)
        inside = Path(os.path.realpath(path)).is_relative_to(self.base / "dev")
        return node.read_text() if inside and node.is_file() else None

    def node(self, name: str) -> str:
        """Return the /dev path of a device."""
        return f"{self.roots.dev}/{name}"

    def listing(self, path: str) -> tuple[PartitionEntry, ...]:
        """Return the fake table on a disk."""
        return tuple(self.tables.get(os.path.basename(os.path.realpath(path)), ()))

    def add_disk(self, name: str, number: str, size_bytes: int = GIB, *, read_only: bool = False) -> None:
        """Add a whole disk with an empty table."""
        self.tables[name] = []
        self._device(self.base / "sys/devices" / name, number, size_bytes, f"DEVNAME={name}\nDEVTYPE=disk\n")
        self.write(name, "ro", "1" if read_only else "0")

    def add_partition(
        self, disk: str, index: int, label: str, *, offset_bytes: int = MIB, size_bytes: int = 100 * MIB
    ) -> str:
        """Add a partition to the kernel's view and to the table; return its name."""
        self.announce(disk, index, label, offset_bytes=offset_bytes, size_bytes=size_bytes)
        entry = PartitionEntry(index, label, uuid_of(disk, index), "0fc63daf-…", offset_bytes, size_bytes)
        self.tables[disk].append(entry)
        return f"{disk}{index}"

    def announce(
        self, disk: str, index: int, label: str, *, offset_bytes: int = MIB, size_bytes: int = 100 * MIB
    ) -> None:
        """Add a partition to the kernel's view only."""
        name = f"{disk}{index}"
        major, minor = (self.base / "sys/devices" / disk / "dev").read_text().split(":")
        uevent = f"DEVNAME={name}\nDEVTYPE=partition\nPARTN={index}\nPARTNAME={label}\n"
        place = self.base / "sys/devices" / disk / name
        self._device(place, f"{major}:{int(minor) + index}", size_bytes, uevent)
        self.write(name, "partition", str(index))
        self.write(name, "start", str(offset_bytes // SECTOR))

    def add_dm(self, name: str, number: str, mapped_name: str, kind: str, below: tuple[str, ...]) -> None:
        """Add a device-mapper device standing on others."""
        self._device(self.base / "sys/devices/virtual" / name, number, GIB, f"DEVNAME={name}\nDEVTYPE=disk\n")
        self.write(name, "dm/name", mapped_name)
        self.write(name, "dm/uuid", kind)
        for slave in below:
            self.write(name, f"slaves/{slave}", "")
            self.write(slave, f"holders/{name}", "")

    def add_loop(self, name: str, number: str, backing_file: str, *, autoclear: bool) -> None:
        """Add a loop device on a file."""
        self.add_disk(name, number)
        self.write(name, "loop/backing_file", backing_file)
        self.write(name, "loop/autoclear", "1" if autoclear else "0")

    def write(self, name: str, file: str, text: str) -> None:
        """Write a file in a device's sysfs directory."""
        path = self.base / "sys/class/block" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def mount(self, number: str, source: str, target: str) -> None:
        """Add a line to mountinfo, with an optional field as the kernel often writes one."""
        with (self.base / "proc/self/mountinfo").open("a") as file:
            file.write(f"36 25 {number} / {target} rw,relatime shared:1 - ext4 {source} rw\n")

    def swap_on(self, path: str) -> None:
        """Add a line to swaps."""
        with (self.base / "proc/swaps").open("a") as file:
            file.write(f"{path} partition 1048572 0 -2\n")

    def remove(self, name: str) -> None:
        """Take a device away, as the kernel does when it vanishes."""
        place = Path(os.path.realpath(self.base / "sys/class/block" / name))
        (self.base / "sys/dev/block" / (place / "dev").read_text().strip()).unlink()
        (self.base / "sys/class/block" / name).unlink()
        (self.base / "dev" / name).unlink()
        shutil.rmtree(place)

    def udev(self, *, busy: bool) -> None:
        """Let udevd run, with or without events to work on."""
        (self.base / "run/udev/control").touch()
        queue = self.base / "run/udev/queue"
        if busy:
            queue.touch()
        else:
            queue.unlink(missing_ok=True)

    def _device(self, place: Path, number: str, size_bytes: int, uevent: str) -> None:
        name = place.name
        for directory in ("holders", "slaves"):
            (place / directory).mkdir(parents=True)
        (self.base / "sys/class/block" / name).symlink_to(place)
        (self.base / "sys/dev/block" / number).symlink_to(place)
        self.write(name, "dev", number)
        self.write(name, "size", str(size_bytes // SECTOR))
        self.write(name, "uevent", uevent.rstrip())
        (self.base / "dev" / name).write_text(number)


class Script:
    """Stand in for udev's events: each wait runs the next action, and too many waits fail."""

    def __init__(self, *actions: object) -> None:
        self.actions = list(actions)
        self.subscriptions = 0

    @contextmanager
    def listen(self) -> Iterator[Script]:
        """Count the subscription."""
        self.subscriptions += 1
        yield self

    def wait(self, timeout_s: float) -> None:
        """Run the next action."""
        assert timeout_s > 0
        assert self.actions, "waited more often than anything happened"
        action = self.actions.pop(0)
        assert callable(action)
        action()


def make_image(path: Path, size_bytes: int) -> str:
    """Make a sparse file of zeros and return its path."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return str(path)


def read_signature(path: str, offset_bytes: int = 0, size_bytes: int = 0) -> Signature | None:
    """Ask the blkid program, which knows nothing of luksctl, what is on an image or on a part of it (0: to the end)."""
    found = shutil.which("blkid", path=":".join(SEARCH_PATH))
    assert found is not None
    command = f'{found} -p -o export -O {offset_bytes} -S {size_bytes} "$0" || [ $? = 2 ]'
    text = run(["/bin/sh", "-c", command, path], timeout_s=30)
    values = dict(line.partition("=")[::2] for line in text.splitlines())
    kind = values.get("TYPE") or values.get("PTTYPE")
    if kind is None:
        return None
    return Signature(kind, values.get("LABEL", ""), values.get("UUID", ""), values.get("USAGE", ""))


def read_table(path: str) -> tuple[PartitionEntry, ...]:
    """Ask sfdisk for the GPT of an image."""
    found = shutil.which("sfdisk", path=":".join(SEARCH_PATH))
    assert found is not None
    if read_signature(path) is None or read_signature(path) != Signature("gpt"):
        return ()
    table = json.loads(run([found, "--json", path], timeout_s=30))["partitiontable"]
    sector = table["sectorsize"]
    return tuple(
        PartitionEntry(
            int(entry["node"].removeprefix(path).lstrip("p")),
            entry.get("name", ""),
            entry["uuid"].lower(),
            entry["type"].lower(),
            entry["start"] * sector,
            entry["size"] * sector,
        )
        for entry in table["partitions"]
    )
