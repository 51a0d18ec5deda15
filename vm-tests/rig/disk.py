"""Disk images of a guest: sparse files that outlive the guest's power."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig import gpt, host
from rig.errors import BuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
CHUNK = 1 * MIB


@dataclass(frozen=True, slots=True)
class BadSector:
    """Make reads or writes ("read", "write") that touch this 512-byte sector fail in the guest with EIO."""

    sector: int
    iotype: str


@dataclass(frozen=True, slots=True)
class Disk:
    """Name one image file and say how QEMU shows it to the guest.

    With log_writes each write, flush and discard of a power-on is also logged in order, beside a copy of the disk as
    it was when the power came on: writelog.py makes the disk as it was after any of them.
    """

    path: Path
    serial: str = "disk"
    log_writes: bool = False
    bad_sectors: tuple[BadSector, ...] = ()
    read_only: bool = False

    @property
    def log_path(self) -> Path:
        """Return the path of the write log of the last power-on."""
        return self.path.with_suffix(".log")

    @property
    def base_path(self) -> Path:
        """Return the path of the copy made at the last power-on with log_writes."""
        return self.path.with_suffix(".base")

    @property
    def size_bytes(self) -> int:
        """Return the disk's size."""
        return self.path.stat().st_size

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Read from the image; what the guest has written and QEMU has not yet is not seen."""
        with self.path.open("rb") as file:
            file.seek(offset_bytes)
            return file.read(size_bytes)

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Write into the image; only while no guest has it."""
        with self.path.open("r+b") as file:
            file.seek(offset_bytes)
            file.write(data)

    def partitions(self) -> tuple[gpt.Partition, ...]:
        """Return the partitions of the disk."""
        return gpt.partitions(self.read)

    def partition(self, label: str) -> gpt.Partition:
        """Return the one partition with this label; raises BuildFailed when there is none, or more than one."""
        found = [partition for partition in self.partitions() if partition.label == label]
        if len(found) != 1:
            raise BuildFailed(f"{self.path}: {len(found)} partitions are called {label}")
        return found[0]

    def sha256(self, label: str | None = None) -> str:
        """Return the hash of a partition, or of the whole disk."""
        digest = hashlib.sha256()
        if label is None:
            start, left = 0, self.size_bytes
        else:
            partition = self.partition(label)
            start, left = partition.offset_bytes, partition.size_bytes
        with self.path.open("rb") as file:
            file.seek(start)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
        return digest.hexdigest()

    def contains(self, marker: bytes) -> bool:
        """Tell whether the bytes are anywhere on the disk; holes of the sparse file are skipped."""
        overlap = len(marker) - 1
        with self.path.open("rb") as file:
            for start, end in _data_ranges(file.fileno()):
                file.seek(start)
                tail = b""
                while chunk := file.read(min(CHUNK, end - file.tell())):
                    if marker in tail + chunk:
                        return True
                    tail = (tail + chunk)[-overlap:] if overlap else b""
        return False

    def copy_to(self, path: Path) -> Path:
        """Copy the image, holes as holes."""
        copy_sparse(self.path, path)
        return path

    def take_from(self, path: Path) -> None:
        """Replace the disk's content by that of another image; only while no guest has it."""
        copy_sparse(path, self.path)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Make disks in one directory; the directory's owner removes them."""

    directory: Path

    def talos(self, serial: str = "disk", size_mib: int = 512, *, log_writes: bool = False) -> Disk:
        """Make a disk with META, STATE and EPHEMERAL, all blank; see talos_layout."""
        disk = Disk(self.directory / f"{serial}.img", serial, log_writes)
        talos_layout(disk.path, size_mib * MIB)
        return disk

    def partitioned(self, labels: list[tuple[str, str]], serial: str = "disk", size_mib: int = 512) -> Disk:
        """Make a disk with the given partitions; see partitioned."""
        disk = Disk(self.directory / f"{serial}.img", serial)
        partitioned(disk.path, labels, size_mib * MIB)
        return disk

    def blank(self, serial: str = "disk", size_mib: int = 512, *, log_writes: bool = False) -> Disk:
        """Make a disk of zeros."""
        disk = Disk(self.directory / f"{serial}.img", serial, log_writes)
        blank(disk.path, size_mib * MIB)
        return disk

    def copy(self, disk: Disk, serial: str) -> Disk:
        """Make a disk with the content that another one has now."""
        return Disk(disk.copy_to(self.directory / f"{serial}.img"), serial)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, holes as holes, sharing blocks where the filesystem can."""
    target.unlink(missing_ok=True)
    host.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)])


def _data_ranges(fd: int) -> Iterator[tuple[int, int]]:
    end = os.fstat(fd).st_size
    position = 0
    while position < end:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        position = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, position


def blank(path: Path, size_bytes: int = 512 * MIB) -> None:
    """Make a disk of zeros."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size_bytes)


def talos_layout(path: Path, size_bytes: int = 512 * MIB) -> None:
    """Make a disk with META (1 MiB), STATE (100 MiB) and EPHEMERAL (the rest), all blank.

    EPHEMERAL stops 1 MiB before the end: on the last sector that sgdisk would choose, its size would not be a
    multiple of 4096 bytes, and libcryptsetup would refuse a sector size of 4096.
    """
    partitioned(path, [("META", "1M"), ("STATE", "100M"), ("EPHEMERAL", "")], size_bytes)


def partitioned(path: Path, labels: list[tuple[str, str]], size_bytes: int = 512 * MIB) -> None:
    """Make a disk with these partitions, by label and size as sgdisk writes it ("100M"; "" for the rest)."""
    blank(path, size_bytes)
    command = ["sgdisk", "--align-end"]
    for number, (label, size) in enumerate(labels, start=1):
        end = f"+{size}" if size else "-1M"
        command += [f"--new={number}:0:{end}", f"--change-name={number}:{label}"]
    host.run([*command, str(path)])


def make_upper(path: Path, size_bytes: int = 256 * MIB) -> None:
    """Make the disk that keeps what the guest writes into its root."""
    blank(path, size_bytes)
    host.run(["mkfs.ext4", "-q", "-F", "-L", "rig-upper", str(path)])
