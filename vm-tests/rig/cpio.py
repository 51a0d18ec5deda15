"""Archives in the cpio "newc" format, which the kernel unpacks as an initramfs (initramfs buffer format)."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = "070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class GuestFile:
    """Hold the content of a file in the guest and its permission bits."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """Hold the target of a symbolic link in the guest."""

    target: str


def archive(entries: Mapping[str, GuestFile | Link]) -> bytes:
    """Return an archive of the entries, by path, with every directory above them (mode 0755, owner root).

    The result is a multiple of 512 bytes long, so that a further archive can be appended.
    """
    parts: list[bytes] = []
    directories: set[str] = set()
    for path in sorted(entries):
        inside = PurePosixPath(path.lstrip("/"))
        for parent in reversed(inside.parents[:-1]):
            if str(parent) not in directories:
                directories.add(str(parent))
                parts.append(_entry(len(parts) + 1, str(parent), stat.S_IFDIR | 0o755, b""))
        match entries[path]:
            case GuestFile(content, mode):
                parts.append(_entry(len(parts) + 1, str(inside), stat.S_IFREG | mode, content))
            case Link(target):
                parts.append(_entry(len(parts) + 1, str(inside), stat.S_IFLNK | 0o777, target.encode()))
    parts.append(_entry(0, TRAILER, 0, b""))
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % 512)


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    raw_name = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(raw_name), 0)
    head = MAGIC + "".join(f"{field:08X}" for field in fields)
    return _padded(head.encode() + raw_name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
