"""Go on after the boot's deadline: try a volume again until it opens, and have systemd mount it then.

A key that was refused is tried again only when something changed (the header, META, the config), so that a node that
stays locked does not run a memory-hard KDF once a minute.
"""

from __future__ import annotations

import hashlib

from luksctl.errors import LuksctlError
from luksctl.model.config import EPHEMERAL, META, STATE
from luksctl.model.observed import Missing
from luksctl.model.probe import Device
from luksctl.node.boot import open_volume
from luksctl.node.node import Node
from luksctl.node.report import Report
from luksctl.node.sources import outside_config, state_directory, stored_config
from luksctl.node.units import mount_unit
from luksctl.node.waiting import TRANSIENT, Deadline, back_off


def retry(node: Node, volume: str) -> Report:
    """Return once `volume` is open and its mount (and that of EPHEMERAL after STATE) was started; may take for ever."""
    failed_with = ""
    for wait_s in back_off(node.settings.timeouts):
        _wait(node, volume, wait_s)
        fingerprint = _circumstances(node, volume)
        if fingerprint == failed_with:
            continue
        try:
            report = open_volume(node, volume, Deadline(node, 0.0))
        except TRANSIENT:
            continue
        except LuksctlError:
            failed_with = fingerprint
            continue
        start_mounts(node, volume)
        return report
    raise AssertionError("back_off never ends")


def _wait(node: Node, volume: str, wait_s: float) -> None:
    """Wait for a missing device to appear, or for as long as the back-off says."""
    settings = node.settings.volume(volume)
    if isinstance(node.ports.disks.find(volume, settings, timeout_s=0), Missing):
        node.ports.disks.find(volume, settings, timeout_s=wait_s)
    else:
        node.system.sleep(wait_s)


def start_mounts(node: Node, volume: str) -> None:
    """Have systemd mount `volume`; after STATE also EPHEMERAL, whose stage was waiting for STATE's config."""
    for name in (STATE, EPHEMERAL) if volume == STATE else (volume,):
        mount_point = node.settings.volume(name).mount_point
        if mount_point is not None:
            unit = mount_unit(mount_point)
            node.system.reset_failed(unit)
            node.system.start_unit(unit)


def _circumstances(node: Node, volume: str) -> str:
    """Digest everything a new attempt could turn out differently for."""
    digest = hashlib.sha256()
    for name in (META, volume):
        found = node.ports.disks.find(name, node.settings.volume(name), timeout_s=0)
        digest.update(repr(found).encode())
        if isinstance(found, Device) and name == volume:
            digest.update(repr(node.ports.disks.header_copies(found)).encode())
    digest.update(repr(node.ports.meta.load().record).encode())
    try:
        directory = state_directory(node)
        config = (stored_config(directory) if directory else None) or outside_config(node)
        digest.update(config.text if config else b"")
    except LuksctlError as error:
        digest.update(str(error).encode())
    return digest.hexdigest()
