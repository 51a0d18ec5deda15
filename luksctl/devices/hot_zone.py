"""What is left in the kernel of a re-encryption that broke off below an open mapping.

While libcryptsetup works on a hot zone, it suspends a device-mapper device of its own, which holds back whatever goes
there. A run that fails before it wrote anything to the zone leaves that device suspended (2.6.1: reencrypt_teardown
replaces it only after a fatal error), and whoever reads or writes there waits for ever, umount and reboot included.
"""

from __future__ import annotations

from luksctl.devices.programs import Program, locate, run
from luksctl.devices.tree import SYSFS_SECTOR_BYTES, BlockTree
from luksctl.hints import Final

_DMSETUP: Final = Program("dmsetup", "dmsetup")
_TIMEOUT_S: Final = 30.0


def hot_zone(mapped_name: str, tree: BlockTree) -> str | None:
    """Return the name of the hot zone's own mapping below `mapped_name`, or None where there is none."""
    for name in tree.names():
        found = tree.attribute(name, "dm/name") or ""
        if found.startswith(f"{mapped_name}-hotzone-"):
            return found
    return None


def fail_hot_zone(hot_zone_name: str, tree: BlockTree) -> None:
    """Let what waits for the hot zone fail, and all that comes after it; nothing is done where nothing waits.

    What waits was encrypted with the new volume key, and the zone still has the old one: it must not arrive. Only for
    whoever ran the re-encryption, after it failed. DeviceError where dmsetup is missing or fails.
    """
    for name in tree.names():
        if tree.attribute(name, "dm/name") != hot_zone_name or tree.attribute(name, "dm/suspended") != "1":
            continue
        device = tree.get(name)
        if device is not None:
            dmsetup = locate(_DMSETUP)
            table = f"0 {device.size_bytes // SYSFS_SECTOR_BYTES} error"
            run([dmsetup, "load", hot_zone_name, "--table", table], timeout_s=_TIMEOUT_S)
            run([dmsetup, "resume", hot_zone_name], timeout_s=_TIMEOUT_S)
