"""One running guest in front of which disk after disk is put: a boot's work on each, without the seconds of a boot.

The guest lets go of the disk (mounts, mappings, everything in /run/luksctl), its content is replaced from outside, the
guest drops what it remembered of it, and the units of a boot are started again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes import mounted_from
from rig.disk import Disk
from rig.machine import Machine, Result

MOUNTS = ("system-state.mount", "system-ephemeral.mount")

_LET_GO = """
systemctl stop 'luksctl-retry@*' 'luksctl-reencrypt@*' 2>/dev/null
systemctl stop system-ephemeral.mount system-state.mount
systemctl stop luksctl-open@STATE luksctl-open@EPHEMERAL
for name in STATE EPHEMERAL; do
    [ ! -e /dev/mapper/luks2-$name ] || cryptsetup close luks2-$name || exit 1
done
rm -rf /run/luksctl
systemctl reset-failed
"""
_FORGET = "for device in /dev/disk/by-id/virtio-disk*; do blockdev --flushbufs $device || exit 1; done"


class Stage:
    """A guest that is on, and the one disk of it that changes."""

    def __init__(self, machine: Machine, disk: Disk) -> None:
        self.machine = machine
        self.disk = disk

    @contextmanager
    def let_go(self) -> Iterator[Disk]:
        """Give the disk to be read and changed from outside; what the guest did is on it, and the guest forgets it."""
        self.machine.check("sh", "-c", _LET_GO + _FORGET)
        yield self.disk
        self.machine.check("sh", "-c", _FORGET)

    def show(self, content: Path) -> None:
        """Put the content of an image under the guest; partitions must lie where they lay before."""
        with self.let_go() as disk:
            _replace_content(content, disk.path)

    def boot(self) -> Result:
        """Start what a boot starts; its status says whether both mounts came up."""
        return self.machine.run("systemctl", "start", *MOUNTS)

    def assert_both_mounted(self) -> None:
        """Check that both volumes are mounted from their mappings and take writes."""
        for volume in ("state", "ephemeral"):
            expected = f"/dev/mapper/luks2-{volume.upper()}"
            assert mounted_from(self.machine, f"/system/{volume}") == expected, self.machine.journal("-n", "40")
            self.machine.check("sh", "-c", f"echo alive > /system/{volume}/alive && sync -f /system/{volume}/alive")


def _replace_content(source: Path, target: Path) -> None:
    """Copy `source` over `target` in place (QEMU holds it open), holes as holes."""
    with source.open("rb") as reading, target.open("r+b") as writing:
        size = os.fstat(reading.fileno()).st_size
        writing.truncate(0)
        writing.truncate(size)
        position = 0
        while position < size:
            try:
                start = os.lseek(reading.fileno(), position, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            position = os.lseek(reading.fileno(), start, os.SEEK_HOLE)
            while start < position:
                start += os.copy_file_range(reading.fileno(), writing.fileno(), position - start, start, start)
