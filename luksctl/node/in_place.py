"""Encrypt or decrypt a volume in place when an operator asks: looked at, announced in META, done now or at the boot.

The announcement is what permits it. The boot that finds it goes on by itself, before the volume is mounted; so does the
boot of a node whose config says `inPlace: true`, without any announcement.
"""

from __future__ import annotations

from luksctl.errors import DeviceError, LuksctlError, ReencryptionRunning, Refused
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL
from luksctl.model.desired import DesiredVolume
from luksctl.model.in_place import ROOM_BYTES, Extent
from luksctl.model.intent import DecryptIntent, InPlaceIntent, ReencryptKind
from luksctl.model.observed import Decrypting, Encrypting, FilesystemFound, Luks2
from luksctl.model.plan import Plan
from luksctl.model.probe import Device
from luksctl.node.node import Node
from luksctl.node.sources import keeping_on, state_directory
from luksctl.node.sync import ruling_config, wish
from luksctl.node.trial import expect_no_trial
from luksctl.reconcile.converge import look
from luksctl.reconcile.desire import desire
from luksctl.reconcile.in_place_steps import expect_room
from luksctl.value import frozen, replace

_GOES_ON: Final = {
    ReencryptKind.RENEW: "it is being re-encrypted",
    ReencryptKind.ENCRYPT: "it is being encrypted in place",
    ReencryptKind.DECRYPT: "it is being decrypted in place",
}


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
    if isinstance(observed, Luks2):
        _expect_not_begun(observed, volume)
        raise Refused("it is encrypted already", volume=volume)
    if not isinstance(observed, FilesystemFound):
        if found.plan.refusal is not None:
            raise found.plan.refusal
        raise Refused("it holds no plain filesystem", volume=volume, hint=f"luksctl plan {volume}")
    if found.plan.refusal is not None:
        raise found.plan.refusal
    holder = ports.disks.in_use(observed.device)
    extent = ports.in_place().extent(observed.device)
    try:
        expect_room(observed.device, extent, wanted.shrinking)
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
    _announce(node, InPlaceIntent(target.volume, target.device.identity, _uuid()))


@frozen
class Encrypted:
    """A volume that can be decrypted in place. `open_as` is its mapping, if it is open."""

    volume: str
    device: Device
    header_uuid: str
    header_file: str
    open_as: str | None
    begun: DecryptIntent | None = None


def look_at_encrypted(node: Node, volume: str) -> Encrypted:
    """Find out whether `volume` can be decrypted in place; reads only. Refused with the reason where it cannot."""
    if volume != EPHEMERAL:
        raise Refused("only EPHEMERAL is decrypted in place: its header is kept on STATE meanwhile", volume=volume)
    expect_no_trial(node)
    wanted = wish(node, ruling_config(node), volume)
    if wanted.encryption is not None:
        hint = "take its encryption out of the config, then: luksctl apply-config --mode staged, and reboot"
        raise Refused("the config asks for its encryption", volume=volume, hint=hint)
    if not wanted.detached:
        raise Refused(
            "its header is kept on STATE meanwhile, which is not mounted", volume=volume, hint="luksctl status"
        )
    if not wanted.fallback:
        raise Refused("no config of before has a key for it", volume=volume, hint="add its keys to the config again")
    observed = look(wanted, node.settings.volume(volume), node.ports).observed
    if isinstance(observed, Decrypting):
        intent = observed.intent
        return Encrypted(volume, observed.device, intent.header_uuid, intent.header, observed.holder, intent)
    if not isinstance(observed, Luks2):
        raise Refused("it is no encrypted volume", volume=volume, hint="luksctl status")
    _expect_not_begun(observed, volume)
    open_as = None if observed.mapping is None else observed.mapping.path
    return Encrypted(volume, observed.device, observed.header.uuid, wanted.detached, open_as)


def announce_decryption(node: Node, found: Encrypted) -> None:
    """Announce it in META, unless it is; from then on the volume is not opened any more before it has begun.

    Refused where somebody announced something else. Cut: announced or not.
    """
    _announce(node, DecryptIntent(found.volume, found.device.identity, found.header_uuid, found.header_file))


def _expect_not_begun(found: Luks2, volume: str) -> None:
    """Raise what keeps an encrypted volume from being worked on in place: others are at it, or we have begun."""
    if found.reencryption is not None:
        cause = f"{_GOES_ON[found.reencryption.kind]} already"
        raise ReencryptionRunning(cause, volume=volume, hint="luksctl status shows how far it is")
    if found.header.reencrypting:
        raise Refused("somebody else re-encrypts it", volume=volume, hint="luksctl status")


def _announce(node: Node, intent: InPlaceIntent | DecryptIntent) -> None:
    with node.ports.disks.volume_lock(intent.volume):
        present = node.ports.meta.load().record.intent(intent.volume)
        if type(present) is type(intent):
            return
        if present is not None:
            raise Refused("META announces something else for it", volume=intent.volume, hint="luksctl status")
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
    expect_no_trial(node)
    directory = state_directory(node)
    if directory is None:
        raise Refused("STATE is not mounted, so the config may only open", volume=volume, hint="luksctl status")
    config = ruling_config(node)
    wanted = desire(volume, config, memory_kib=node.system.memory_kib())
    if wanted.encryption is None:
        raise Refused(
            "the config asks for no encryption of it", volume=volume, hint="add its keys, then: luksctl apply-config"
        )
    # Whoever asks for it by name has looked at what is there.
    return replace(keeping_on(directory, wanted), policy=replace(wanted.policy, in_place=True))
