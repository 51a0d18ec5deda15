"""Making filesystems: xfs and ext4, by their own programs, only where nothing is yet."""

from __future__ import annotations

import re

from luksctl.devices.medium import flush, size_of
from luksctl.devices.probing import SignatureProbe
from luksctl.devices.programs import Program, Progress, locate, run
from luksctl.errors import DeviceError, NotBlank
from luksctl.hints import Final, assert_never
from luksctl.model.config import Filesystem
from luksctl.units import KIB, MIB, format_size

MKFS_XFS: Final = Program("mkfs.xfs", "xfsprogs")
MKFS_EXT4: Final = Program("mkfs.ext4", "e2fsprogs")

# Discarding a large disk is most of it.
MKFS_TIMEOUT_S: Final = 600.0
# mkfs.xfs refuses up to this size since xfsprogs 5.19 unless told --unsupported, which older ones do not know.
_XFS_SMALL_BYTES: Final = 300 * MIB
_XFS_UNSUPPORTED_SINCE: Final = (5, 19)
# A multiple of every block size either filesystem picks by itself.
_BLOCK_BYTES: Final = 4 * KIB


def make_filesystem(
    path: str,
    filesystem: Filesystem,
    label: str,
    *,
    uuid: str | None,
    size_bytes: int,
    signature: SignatureProbe,
    progress: Progress | None = None,
) -> None:
    """Make `filesystem` within the first `size_bytes` of `path`, and return when it is on the medium.

    `uuid` None leaves its choice to the program. NotBlank where libblkid finds anything on `path`: mkfs.ext4 without a
    terminal would not look. DeviceError where the program is missing or fails. Cut: a torn filesystem, or nothing.
    """
    found = signature(path)
    if found is not None:
        what = found.type or "contradicting signatures"
        raise NotBlank(f"{path} holds {what}; no filesystem is made over it", operation="mkfs")
    device_bytes = size_of(path)
    if size_bytes > device_bytes:
        wanted, there = format_size(size_bytes), format_size(device_bytes)
        raise DeviceError(f"{path} has {there}, a filesystem of {wanted} does not fit", operation="mkfs")
    limit = None if size_bytes == device_bytes else size_bytes - size_bytes % _BLOCK_BYTES
    match filesystem:
        case Filesystem.XFS:
            argv = _xfs(path, label, uuid, size_bytes, limit)
        case Filesystem.EXT4:
            argv = _ext4(path, label, uuid, limit)
        case _:
            assert_never(filesystem)
    run(argv, timeout_s=MKFS_TIMEOUT_S, progress=progress)
    flush(path)


def mkfs_problem(filesystem: Filesystem) -> DeviceError | None:
    """Return why `filesystem` could not be made here: its program is not installed. None where it is."""
    match filesystem:
        case Filesystem.XFS:
            program = MKFS_XFS
        case Filesystem.EXT4:
            program = MKFS_EXT4
        case _:
            assert_never(filesystem)
    try:
        locate(program)
    except DeviceError as error:
        return error
    return None


def _xfs(path: str, label: str, uuid: str | None, size_bytes: int, limit_bytes: int | None) -> list[str]:
    program = locate(MKFS_XFS)
    argv = [program, "-q", "-n", "ftype=1", "-L", label]
    if uuid is not None:
        argv += ["-m", f"uuid={uuid}"]
    if limit_bytes is not None:
        argv += ["-d", f"size={limit_bytes}"]
    if size_bytes <= _XFS_SMALL_BYTES and _xfs_version(program) >= _XFS_UNSUPPORTED_SINCE:
        argv.append("--unsupported")
    return [*argv, path]


def _xfs_version(program: str) -> tuple[int, int]:
    text = run([program, "-V"], timeout_s=MKFS_TIMEOUT_S)
    match = re.search(r"(\d+)\.(\d+)", text)
    if match is None:
        raise DeviceError(f"{program} -V shows no version: {text.strip()!r}", operation="mkfs.xfs")
    return int(match[1]), int(match[2])


def _ext4(path: str, label: str, uuid: str | None, limit_bytes: int | None) -> list[str]:
    argv = [locate(MKFS_EXT4), "-q", "-L", label]
    if uuid is not None:
        argv += ["-U", uuid]
    argv.append(path)
    if limit_bytes is not None:
        argv.append(f"{limit_bytes // KIB}k")  # with a suffix it is a size, without one a number of blocks
    return argv
