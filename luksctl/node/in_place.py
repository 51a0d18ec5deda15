"""Encrypt a plain volume in place, when an operator asks for it: looked at, announced in META, done now or at the boot.

The announcement is what permits it. The boot that finds it goes on by itself, before the volume is mounted; so does the
boot of a node whose config says `inPlace: true`, without any announcement.
"""

from __future__ import annotations

from luksctl.errors import DeviceError, LuksctlError, Refused
from luksctl.model.config import EPHEMERAL
from luksctl.model.desired import DesiredVolume
from luksctl.model.in_place import ROOM_BYTES, Extent
from luksctl.model.intent import InPlaceIntent
from luksctl.model.observed import Encrypting, FilesystemFound
from luksctl.model.plan import Plan
from luksctl.model.probe import Device
from luksctl.node.node import Node
from luksctl.node.sync import ruling_config
from luksctl.reconcile.converge import look
from luksctl.reconcile.desire import desire
from luksctl.reconcile.in_place_steps import expect_room
from luksctl.value import frozen, replace


@frozen
class Target:
    """A plain volume that can be encrypted in place. `holder` is who uses it now; `begun` is what META announces."""

    volume: str
    device: Device
    extent: Extent
    holder: str | None
    plan: Plan
    begun: InPlaceIntent | None = None

    @property
    def shrinks(self) -> bool:
        """Tell whether its filesystem has to be shrunk for it."""
        return self.extent.size_bytes > self.device.size_bytes - ROOM_BYTES


def look_at(node: Node, volume: str) -> Target:
    """Find out whether `volume` can be encrypted in place; reads only. Refused with the reason where it cannot."""
    wanted = _wanted(node, volume)
    settings, ports = node.settings.volume(volume), node.ports
    found = look(wanted, settings, ports)
    observed = found.observed
    if isinstance(observed, Encrypting):
        extent = Extent("", 0)
        return Target(volume, observed.device, extent, observed.holder, found.plan, observed.intent)
    if not isinstance(observed, FilesystemFound):
        if found.plan.refusal is not None:
            raise found.plan.refusal
        raise Refused("it holds no plain filesystem", volume=volume, hint=f"luksctl plan {volume}")
    if found.plan.refusal is not None:
        raise found.plan.refusal
    holder = ports.disks.in_use(observed.device)
    extent = ports.in_place().extent(observed.device)
    try:
        expect_room(observed.device, extent)
        if holder is None:
            ports.in_place().check(observed.device)
    except LuksctlError as error:
        error.volume = volume
        if isinstance(error, DeviceError):
            raise Refused(f"its filesystem is not sound: {error.cause}; nothing was touched", volume=volume) from error
        raise
    return Target(volume, observed.device, extent, holder, found.plan)


def announce(node: Node, target: Target) -> None:
    """Announce it in META, unless it is; from then on the volume is not mounted any more before it is done.

    Refused where somebody announced something else. Cut: announced or not.
    """
    with node.ports.disks.volume_lock(target.volume):
        present = node.ports.meta.load().record.intent(target.volume)
        if isinstance(present, InPlaceIntent):
            return
        if present is not None:
            raise Refused("META announces something else for it", volume=target.volume, hint="luksctl status")
        intent = InPlaceIntent(target.volume, target.device.identity, _uuid())
        node.ports.meta.update_record(lambda record: record.with_intent(intent))


def _uuid() -> str:
    import uuid  # noqa: PLC0415  # a boot makes its own, without this module

    return str(uuid.uuid4())


def _wanted(node: Node, volume: str) -> DesiredVolume:
    if volume != EPHEMERAL:
        raise Refused(
            "only EPHEMERAL is encrypted in place: what is on STATE comes back from its config",
            volume=volume,
            hint="docs/reset.md, A new STATE",
        )
    config = ruling_config(node)
    wanted = desire(volume, config, memory_kib=node.system.memory_kib())
    if wanted.encryption is None:
        raise Refused(
            "the config asks for no encryption of it", volume=volume, hint="add its keys, then: luksctl apply-config"
        )
    # Whoever asks for it by name has looked at what is there.
    return replace(wanted, policy=replace(wanted.policy, in_place=True))
