"""What is on a device, as libblkid sees it: signatures and partition tables. Reads only, through the page cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.errors import DeviceError
from luksctl.hints import TYPE_CHECKING, Final
from luksctl.model.probe import PartitionEntry, Signature
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import BlkidPartition, BlkidProbe, Chars

_SECTOR_BYTES: Final = 512  # libblkid counts in these whatever the device has
_NOTHING, _AMBIVALENT = 1, -2
# A damaged filesystem is still somebody's filesystem: BADCSUM keeps it from looking blank.
_SUPERBLOCKS: Final = (
    lib.BLKID_SUBLKS_LABEL
    | lib.BLKID_SUBLKS_UUID
    | lib.BLKID_SUBLKS_TYPE
    | lib.BLKID_SUBLKS_USAGE
    | lib.BLKID_SUBLKS_BADCSUM
)


@frozen
class PartitionTable:
    """A partition table: `type` is "gpt" or "dos", `uuid` its own, and `entries` in order of their place in it."""

    type: str
    uuid: str
    entries: tuple[PartitionEntry, ...]


def signature(path: str) -> Signature | None:
    """Return what is on the device or file `path`, or None for nothing.

    Raises DeviceError when it cannot be opened or read.
    """
    with _open(path) as fd:
        return signature_of(fd, path)


def signature_of(fd: int, subject: str, *, offset_bytes: int = 0, size_bytes: int = 0) -> Signature | None:
    """Return what is in `size_bytes` (0: the rest) of `fd` from `offset_bytes` on, or None for nothing.

    `subject` names it in errors. Raises DeviceError when it cannot be read (blkid_do_safeprobe).
    """
    with _probe(fd, subject, offset_bytes, size_bytes) as probe:
        lib.blkid_probe_enable_superblocks(probe, 1)
        lib.blkid_probe_set_superblocks_flags(probe, _SUPERBLOCKS)
        lib.blkid_probe_enable_partitions(probe, 1)
        rc = lib.blkid_do_safeprobe(probe)
        if rc == _NOTHING:
            return None
        if rc == _AMBIVALENT:
            return Signature("", ambivalent=True)
        if rc != 0:
            raise DeviceError(f"libblkid cannot read {subject}", operation="probe", hint="dmesg")
        kind = _value(probe, b"TYPE")
        if kind:
            return Signature(kind, _value(probe, b"LABEL"), _value(probe, b"UUID"), _value(probe, b"USAGE"))
        return Signature(_value(probe, b"PTTYPE"), uuid=_value(probe, b"PTUUID"))


def partition_table(path: str) -> PartitionTable | None:
    """Return the partition table on the disk or image `path`, or None; DeviceError when it cannot be opened."""
    with _open(path) as fd:
        return partition_table_of(fd, path)


def partition_table_of(fd: int, subject: str) -> PartitionTable | None:
    """Return the partition table on `fd`, or None where there is none (blkid_probe_get_partitions).

    `subject` names it in errors. Raises DeviceError when it cannot be read.
    """
    with _probe(fd, subject) as probe:
        lib.blkid_probe_enable_superblocks(probe, 0)
        lib.blkid_probe_enable_partitions(probe, 1)
        found = lib.blkid_probe_get_partitions(probe)
        table = lib.blkid_partlist_get_table(found) if found else None
        if not found or not table:
            return None
        count = lib.blkid_partlist_numof_partitions(found)
        partitions = (lib.blkid_partlist_get_partition(found, index) for index in range(count))
        return PartitionTable(
            type=_text(lib.blkid_parttable_get_type(table)),
            uuid=_text(lib.blkid_parttable_get_id(table)).lower(),
            entries=tuple(_entry(partition) for partition in partitions if partition),
        )


def _entry(partition: BlkidPartition) -> PartitionEntry:
    return PartitionEntry(
        number=lib.blkid_partition_get_partno(partition),
        name=_text(lib.blkid_partition_get_name(partition)),
        uuid=_text(lib.blkid_partition_get_uuid(partition)).lower(),
        type_uuid=_text(lib.blkid_partition_get_type_string(partition)).lower(),
        offset_bytes=lib.blkid_partition_get_start(partition) * _SECTOR_BYTES,
        size_bytes=lib.blkid_partition_get_size(partition) * _SECTOR_BYTES,
    )


@contextmanager
def _open(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceError(f"{path} cannot be opened: {error.strerror or error}", operation="probe") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _probe(fd: int, subject: str, offset_bytes: int = 0, size_bytes: int = 0) -> Iterator[BlkidProbe]:
    probe = lib.blkid_new_probe()
    if not probe:
        from luksctl.cryptsetup.library import require  # noqa: PLC0415  # only where something is missing

        require("blkid_new_probe")
        raise MemoryError
    try:
        if lib.blkid_probe_set_device(probe, fd, offset_bytes, size_bytes) != 0:
            raise DeviceError(f"libblkid cannot read {subject}", operation="probe", hint="dmesg")
        yield probe
    finally:
        lib.blkid_free_probe(probe)


def _value(probe: BlkidProbe, name: bytes) -> str:
    data, length = ffi.new("const char **"), ffi.new("size_t *")
    if lib.blkid_probe_lookup_value(probe, name, data, length) != 0:
        return ""
    return _text(data[0])


def _text(chars: Chars) -> str:
    return ffi.string(chars).decode(errors="replace") if chars else ""
