"""META images built by hand, and a medium that loses power in the middle of a write."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Collection, Iterator
from itertools import chain, combinations
from pathlib import Path

from luksctl.meta.medium import Medium
from luksctl.meta.store import AdvStore

MIB = 1 << 20
COPY = 1 << 18
SECTOR = 512


class PowerCutError(Exception):
    """The power failed inside a write."""


class TearingMedium(Medium):
    """Loses power in put number `cut_at`, of which only the sectors in `kept` reach the disk; counts the others."""

    def __init__(self, path: str, *, cut_at: int | None = None, kept: Collection[int] = ()) -> None:
        super().__init__(path)
        self._cut_at = cut_at
        self._kept = kept
        self.puts: list[tuple[int, bytes]] = []

    def put(self, descriptor: int, offset: int, data: bytes | bytearray) -> None:
        """Write, or tear."""
        if len(self.puts) == self._cut_at:
            for sector in self._kept:
                part = bytes(data[sector * SECTOR : (sector + 1) * SECTOR])
                os.pwrite(descriptor, part, offset + sector * SECTOR)
            raise PowerCutError
        self.puts.append((offset, bytes(data)))
        super().put(descriptor, offset, data)


def store_of(image: Path, medium: Medium | None = None, *, create: bool = False) -> AdvStore:
    """Return a store over `image` with a sidecar lock that is waited for not at all."""
    return AdvStore(str(image), f"{image}.lock", create=create, lock_timeout_s=0.0, medium=medium)


def talos_copy(records: list[tuple[int, bytes]]) -> bytes:
    """Build one copy as Talos' format describes it, in the given order, by other means than the codec's."""
    return sealed_copy(b"".join(struct.pack(">II", tag, len(value)) + value for tag, value in records))


def sealed_copy(body: bytes) -> bytes:
    """Build one copy around any `body`, with the right magics and checksum."""
    head = bytes.fromhex("5a4b3c2d") + body.ljust(COPY - 40, b"\0")
    tail = bytes.fromhex("a5b4c3d2")
    return head + hashlib.sha256(head + bytes(32) + tail).digest() + tail


def legacy_copy(records: list[tuple[int, bytes]]) -> bytes:
    """Build one legacy copy (512 bytes) from its description."""
    area = b"".join(bytes((tag, len(value))) + value for tag, value in records).ljust(500, b"\0")
    checksum = (0xA3041767 - sum(struct.unpack("<125I", area))) % (1 << 32)
    return struct.pack("<II", 0x5A2D2FA5, checksum) + area + struct.pack("<I", 0xDD28BF64)


def meta_image(copy_a: bytes, copy_b: bytes | None = None, *, middle: bytes = b"", tail: bytes = b"") -> bytes:
    """Return 1 MiB with the two copies (B like A unless given), the start of the unused middle, and the tail."""
    second = copy_a if copy_b is None else copy_b
    rest = middle.ljust(MIB - 2 * COPY - 1024, b"\0") + tail.ljust(1024, b"\0")
    return copy_a + second + rest


def changed_sectors(old: bytes, new: bytes) -> list[int]:
    """Return the numbers of the sectors in which two equally long texts differ."""
    places = range(0, len(old), SECTOR)
    return [place // SECTOR for place in places if old[place : place + SECTOR] != new[place : place + SECTOR]]


def subsets(sectors: list[int]) -> Iterator[tuple[int, ...]]:
    """Give every set of `sectors` that a cut can have let through: disks keep no order within a write."""
    return chain.from_iterable(combinations(sectors, size) for size in range(len(sectors) + 1))
