"""Where a filesystem has no immutable flag: a read-only bind mount over the directory that holds the mount points.

It has to be on their parent: a mount on the mount point itself would look to systemd like the volume. The parent may
hold nothing else, because everything in it is hidden by the empty directories of the guard.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from luksctl.hints import Final
from luksctl.node.units import MARK, UnitFile, literal, mount_unit

DIRECTORY: Final = "/etc/luksctl/guard"

_UNIT: Final = """\
[Unit]
Description=An empty, read-only place for the mount points of luksctl

[Mount]
What={what}
Where={where}
Options=bind,ro

[Install]
WantedBy=local-fs.target
"""


def parent_of(mount_points: Sequence[str]) -> str | None:
    """Return the directory below / that holds all mount points, or None where there is no such one."""
    parents = {os.path.dirname(path) for path in mount_points}
    return next(iter(parents)) if len(parents) == 1 and parents != {"/"} else None


def possible(root: str, mount_points: Sequence[str]) -> bool:
    """Tell whether the mount points share a parent of their own that holds nothing else."""
    parent = parent_of(mount_points)
    if parent is None:
        return False
    return set(os.listdir(root + parent)) <= {os.path.basename(path) for path in mount_points}


def active(root: str, mount_points: Sequence[str], mounted: Callable[[str], bool]) -> bool:
    """Tell whether the guard is mounted in the running system."""
    parent = parent_of(mount_points)
    return not root and parent is not None and os.path.isdir(DIRECTORY) and mounted(parent)


def unit(mount_points: Sequence[str]) -> tuple[UnitFile, ...]:
    """Return the mount unit of the guard; none where the mount points share no parent."""
    parent = parent_of(mount_points)
    if parent is None:
        return ()
    return (UnitFile(mount_unit(parent), MARK + _UNIT.format(what=DIRECTORY, where=literal(parent)), wanted=True),)


def make_directories(root: str, mount_points: Sequence[str]) -> list[str]:
    """Make the empty directories that the guard shows, mode 0000, and return the top one."""
    for path in mount_points:
        directory = f"{root}{DIRECTORY}/{os.path.basename(path)}"
        os.makedirs(directory, mode=0o755, exist_ok=True)
        os.chmod(directory, 0)
    return [root + DIRECTORY]


def remove_directories(root: str, mount_points: Sequence[str]) -> list[str]:
    """Remove them again, as far as they are there; OSError where somebody put something in."""
    top = root + DIRECTORY
    if not os.path.isdir(top):
        return []
    for path in mount_points:
        directory = f"{top}/{os.path.basename(path)}"
        if os.path.isdir(directory):
            os.rmdir(directory)
    os.rmdir(top)
    return [top]
