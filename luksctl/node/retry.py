"""Go on after the boot's deadline: try a volume again until it opens, and have systemd mount it then.

What only a KMS can open is handed over to the stage of the boot that has a network, where the same is done.

A key that was refused is tried again only when something changed (the header, META, the config), so that a node that
stays locked does not run a memory-hard KDF once a minute.
"""

from __future__ import annotations

import hashlib
import math

from luksctl.errors import DeviceError, LuksctlError
from luksctl.model.config import EPHEMERAL, META, STATE, ByImage, StaticKey
from luksctl.model.observed import Missing
from luksctl.model.probe import Device
from luksctl.node.boot import finish_resets, open_volume
from luksctl.node.node import Node
from luksctl.node.report import Report, failure_report, read_report
from luksctl.node.sources import outside_config, state_directory, stored_config
from luksctl.node.units import mount_unit, network_unit
from luksctl.node.waiting import TRANSIENT, Deadline, back_off
from luksctl.reconcile.keys import needs_network


def retry(node: Node, volume: str, *, network: bool = False) -> Report:
    """Return once `volume` is open and its mount (and that of EPHEMERAL after STATE) was started; may take for ever.

    Without `network` it returns the report of the failure as well, once it is the other stage's turn.
    """
    failed_with = told = ""
    before = None if network else read_report(node, volume)
    if before is not None and before.network and before.exit_code:
        return _hand_over(node, before)
    for wait_s in back_off(node.settings.timeouts):
        fingerprint = ""
        try:
            _wait(node, volume, wait_s)
            fingerprint = _circumstances(node, volume)
            if fingerprint == failed_with:
                continue
            # Whatever is overwritten takes as long as it takes: nobody waits for this attempt.
            finish_resets(node, volume, Deadline(node, math.inf))
            report = open_volume(node, volume, Deadline(node, 0.0))
        except TRANSIENT as error:
            if needs_network(error):
                return _hand_over(node, failure_report(volume, error))
            if str(error) != told:
                told = str(error)
                node.tell(f"{told}; trying again")
            continue
        except LuksctlError:
            failed_with = fingerprint
            continue
        start_mounts(node, volume)
        return report
    raise AssertionError("back_off never ends")


def _hand_over(node: Node, waiting: Report) -> Report:
    node.tell(f"{waiting.volume} waits for the KMS: {network_unit(waiting.volume)} asks it once the network is up")
    node.system.start_soon(network_unit(waiting.volume))
    return waiting


def _wait(node: Node, volume: str, wait_s: float) -> None:
    """Wait for a missing device to appear, or for as long as the back-off says."""
    settings = node.settings.volume(volume)
    missing = isinstance(node.ports.disks.find(volume, settings, timeout_s=0), Missing)
    # No event tells of an image file, so nothing waits for one.
    if missing and not isinstance(settings.location, ByImage):
        node.ports.disks.find(volume, settings, timeout_s=wait_s)
    else:
        node.system.sleep(wait_s)


def start_mounts(node: Node, volume: str) -> None:
    """Have systemd mount `volume`; after STATE also EPHEMERAL, whose stage was waiting for STATE's config.

    DeviceError where the mount of `volume` does not start. An EPHEMERAL that does not come up after STATE is told, and
    tried again by its own unit: failing here would have the unit of STATE run the KDF of a locked EPHEMERAL for ever.
    """
    _start_mount(node, volume)
    if volume != STATE:
        return
    try:
        _start_mount(node, EPHEMERAL)
    except DeviceError as error:
        node.tell(f"{EPHEMERAL} did not come up after {STATE}: {error}")


def _start_mount(node: Node, volume: str) -> None:
    """Mount it, and start what systemd gave up when it could not be mounted; nothing where it is mounted already."""
    mount_point = node.settings.volume(volume).mount_point
    if mount_point is None:
        return
    unit = mount_unit(mount_point)
    mounted = node.system.mounted_from(mount_point) is not None
    node.system.reset_failed(unit)
    node.system.start_unit(unit)
    if mounted:
        return
    try:
        started = node.system.start_dependants(unit)
    except DeviceError as error:
        node.tell(f"what needs {volume} was not started: {error.cause}")
        return
    if started:
        node.tell(f"started what needs {volume}: {', '.join(started)}")


def _circumstances(node: Node, volume: str) -> str:
    """Digest everything a new attempt could turn out differently for."""
    digest = hashlib.sha256()
    for name in (META, volume):
        found = node.ports.disks.find(name, node.settings.volume(name), timeout_s=0)
        digest.update(repr(found).encode())
        if isinstance(found, Device) and name == volume:
            digest.update(repr(node.ports.disks.header_copies(found)).encode())
    digest.update(repr(node.ports.disks.mapping(f"luks2-{volume}")).encode())
    facts = node.ports.meta.load()
    digest.update(repr(facts).encode())
    # Neither shows in the text: the UUID that makes nodeID keys, and the passphrases of tag 9.
    digest.update((facts.uuid_override or "").encode("utf-8", "surrogateescape"))
    for key in facts.state_encryption.keys if facts.state_encryption is not None else ():
        if isinstance(key.source, StaticKey):
            with key.source.passphrase.view() as passphrase:
                digest.update(passphrase)
    try:
        directory = state_directory(node)
        config = (stored_config(directory) if directory else None) or outside_config(node)
        digest.update(config.text if config else b"")
    except LuksctlError as error:
        digest.update(str(error).encode())
    return digest.hexdigest()
