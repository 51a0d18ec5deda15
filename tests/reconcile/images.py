"""Real headers and a real META in files; only device-mapper is made up, since nothing here may need root.

Activating checks the volume key against the header and remembers the mapping until the next boot; mkfs on the mapping
leaves a file that says which volume key it was made under.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from luksctl.cryptsetup import blkid
from luksctl.cryptsetup.device import Device as LuksDevice
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.cryptsetup.kdf import DEFAULT_BOUNDS
from luksctl.cryptsetup.ondisk import read_copies
from luksctl.cryptsetup.reencryption import ReencryptMode, ReencryptStatus, parameters_of
from luksctl.devices import medium
from luksctl.devices.disks import SystemDisks
from luksctl.devices.find import Finder
from luksctl.devices.in_place import SystemInPlaceDisks
from luksctl.devices.tree import BlockTree, Roots
from luksctl.errors import DeviceError, LuksctlError, SlotPassphraseRejected
from luksctl.meta.store import AdvStore
from luksctl.model.config import (
    CHEAPEST_KDF,
    META,
    META_SIZE_BYTES,
    STATE,
    ByImage,
    EncryptionPolicy,
    Filesystem,
    KdfCost,
    KeyKind,
    Settings,
    VolumeEncryption,
    VolumeSettings,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import HeaderCopies
from luksctl.model.intent import ReencryptIntent, ReencryptKind
from luksctl.model.meta import MetaFacts
from luksctl.model.observed import Ambiguous, Mapping, Missing, Observed
from luksctl.model.ports import Activation, Ports
from luksctl.model.probe import Device, Hardware, Range, Signature
from luksctl.model.simulate import World
from luksctl.providers.node_id import NodeIdProvider
from luksctl.providers.registry import Registry
from luksctl.providers.static import StaticProvider
from luksctl.reconcile.observe import observe
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace

# The header and what Blank asks about fit; less than 32 MiB, since every test reads all of it more than once.
IMAGE_BYTES = 20 * MIB
NODE_UUID = "4c4c4544-0042-3510-8052-b7c04f4e3132"

_KINDS = {
    ReencryptMode.REENCRYPT: ReencryptKind.RENEW,
    ReencryptMode.ENCRYPT: ReencryptKind.ENCRYPT,
    ReencryptMode.DECRYPT: ReencryptKind.DECRYPT,
}


def cheap_wish(encryption: VolumeEncryption | None) -> DesiredVolume:
    """Return a wish for STATE whose keyslots cost as little as the library allows."""
    return DesiredVolume(STATE, encryption, EncryptionPolicy(kdf=CHEAPEST_KDF, filesystems=((STATE, Filesystem.EXT4),)))


@dataclass
class Boot:
    """What is gone after a reboot."""

    mapping: Mapping | None = None
    opened_with: str = ""
    used_by: str | None = None
    hot_zone: str | None = None


class Node:
    """STATE and META as files in `directory`, made blank where they are not there."""

    def __init__(self, directory: Path) -> None:
        self.state, self.meta, self.inside = directory / "state.img", directory / "meta.img", directory / "inside"
        self.inside_later = directory / "inside.later"
        for path, size_bytes in ((self.state, IMAGE_BYTES), (self.meta, META_SIZE_BYTES)):
            if not path.exists():
                with path.open("xb") as target:
                    target.truncate(size_bytes)
        self.boot = Boot()
        self.bounds = DEFAULT_BOUNDS
        self.kdf_runs: list[int] = []
        self.kdf_begun_s: float | None = None
        self.break_off: Callable[[], LuksctlError] | None = None
        self.hot_zone_problem = ""
        self.failed_hot_zones: list[str] = []
        volumes = ((META, VolumeSettings(ByImage(str(self.meta)))), (STATE, VolumeSettings(ByImage(str(self.state)))))
        self.settings = Settings(volumes)
        self._roots = Roots(*(str(directory / name) for name in ("sys", "proc", "dev", "run")))
        self._run_dir = str(directory / "locks")

    @property
    def volume_settings(self) -> VolumeSettings:
        """Return where STATE is."""
        return self.settings.volume(STATE)

    @property
    def ports(self) -> Ports:
        """Return the real adapters, but for device-mapper."""
        tree = BlockTree(self._roots)
        system = SystemDisks(
            self.settings,
            tree,
            Finder(tree, lambda _: ()),
            read_copies=read_copies,
            probe=blkid.signature,
            run_dir=self._run_dir,
        )
        providers = Registry({KeyKind.STATIC: StaticProvider(), KeyKind.NODE_ID: NodeIdProvider(lambda: NODE_UUID)})
        store = AdvStore(str(self.meta), f"{self.meta}.lock")
        return Ports(
            _Disks(system, self),
            _Headers(self),
            store,
            providers,
            in_place=lambda: SystemInPlaceDisks(self._run_dir),
            scratch_dir=self._run_dir,
        )

    def count_kdf(self, slot: int) -> None:
        """Note that a key derivation begins."""
        if self.kdf_begun_s is None:
            self.kdf_begun_s = time.perf_counter()
        self.kdf_runs.append(slot)

    def reboot(self) -> None:
        """Forget what only memory held."""
        self.boot = Boot()

    def observe(self) -> Observed:
        """Return what observe makes of STATE."""
        return observe(STATE, self.volume_settings, f"luks2-{STATE}", self.facts(), self.ports.disks)

    def facts(self) -> MetaFacts:
        """Return what META says."""
        return self.ports.meta.load()

    def world(self) -> World:
        """Return both, as simulate has them."""
        return World(self.observe(), self.facts())

    def bytes_on_disk(self) -> tuple[bytes, bytes]:
        """Return digests of both files."""
        first, second = (hashlib.sha256(path.read_bytes()).digest() for path in (self.state, self.meta))
        return first, second

    def filesystem(self) -> Signature | None:
        """Return what the open mapping shows."""
        if not self.inside.exists():
            return None
        made_under = {self.inside.read_text(encoding="ascii")}
        if self.inside_later.exists():
            made_under |= set(self.inside_later.read_text(encoding="ascii").split())
        if self.boot.opened_with not in made_under:
            return None
        return Signature("ext4", STATE, usage="filesystem")


class _Headers(LuksHeaders):
    def __init__(self, node: Node) -> None:
        super().__init__(medium.read, node.bounds)
        self._node = node

    def activate(self, device: Device, mapped_name: str, volume_key: Secret, how: Activation) -> None:  # noqa: ARG002  # no dm
        """Check the volume key against a copy of the header, and remember the mapping."""
        if self._node.boot.mapping is not None:
            raise AssertionError("it is open already")
        image = copy_header(lambda offset, length: medium.read(device.path, offset, length), device.size_bytes)
        with LuksDevice.from_copy(image, device.path) as luks:
            luks.verify_volume_key(volume_key)
        with volume_key.view() as view:
            opened_with = hashlib.sha256(view).hexdigest()
        self._node.boot = Boot(Mapping(mapped_name, f"/dev/mapper/{mapped_name}", device.path), opened_with)

    def activate_reencrypting(self, device: Device, mapped_name: str, key: Secret, how: Activation) -> None:  # noqa: ARG002  # no dm
        """Mend a torn hot zone, as the library does before it opens, check both volume keys, remember the mapping."""
        if self._node.boot.mapping is not None:
            raise AssertionError("it is open already")
        self.put_back_unbegun(device)
        with self._open(device) as luks:
            parameters = parameters_of(ReencryptIntent("", "", "", "", kind=_KINDS[luks.reencryption.state().mode]))
            if luks.reencryption.state().status is ReencryptStatus.CRASH:
                luks.reencryption.recover(parameters, key)
            if luks.reencryption.state().status is not ReencryptStatus.NONE:  # the last hot zone ends all of it
                luks.reencryption.resume(parameters, key)
            if not luks.keyslots.numbers():  # of a decryption: what is plain by now is opened by no key
                raise SlotPassphraseRejected("the key opens no slot", errno=errno.EPERM)
        inside = self._node.inside
        opened_with = inside.read_text(encoding="ascii") if inside.exists() else ""
        self._node.boot = Boot(Mapping(mapped_name, f"/dev/mapper/{mapped_name}", device.path), opened_with)

    def add_new_keyslot(
        self, device: Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost, *, first: bool
    ) -> None:
        """Note the volume key under which the same content may be found from now on."""
        with volume_key.view() as view, self._node.inside_later.open("a", encoding="ascii") as file:
            file.write(hashlib.sha256(view).hexdigest() + "\n")
        super().add_new_keyslot(device, slot, key, volume_key, kdf, first=first)

    def run_reencryption(
        self,
        device: Device,
        key: Secret,
        how: ReencryptIntent,
        mapped_name: str | None,
        progress: Callable[[int, int], None],
    ) -> None:
        """Run it, or break off where a test wants that."""
        if self._node.break_off is not None:
            raise self._node.break_off()
        super().run_reencryption(device, key, how, mapped_name, progress)

    def test_key(self, device: Device, slot: int, key: Secret) -> None:
        """Count one key derivation."""
        self._node.count_kdf(slot)
        super().test_key(device, slot, key)

    def volume_key(self, device: Device, slot: int, key: Secret) -> Secret:
        """Count one key derivation."""
        self._node.count_kdf(slot)
        return super().volume_key(device, slot, key)

    def deactivate(self, mapped_name: str) -> None:  # noqa: ARG002  # there is one
        """Forget the mapping."""
        self._node.boot = Boot()


@dataclass
class _Disks:
    """The real thing, but for what is above a mapping."""

    system: SystemDisks
    node: Node

    def find(self, volume: str, settings: VolumeSettings, *, timeout_s: float) -> Device | Missing | Ambiguous:
        return self.system.find(volume, settings, timeout_s=timeout_s)

    def header_copies(self, device: Device) -> HeaderCopies:
        return self.system.header_copies(device)

    def signature(self, path: str) -> Signature | None:
        return self.system.signature(path)

    def is_zero(self, device: Device) -> bool:
        return self.system.is_zero(device)

    def in_use(self, device: Device) -> str | None:
        if device.path.startswith("/dev/mapper/"):
            return self.node.boot.used_by
        return self.system.in_use(device)

    def mapping(self, mapped_name: str) -> Mapping | None:  # noqa: ARG002  # there is one
        found = self.node.boot.mapping
        return None if found is None else replace(found, signature=self.node.filesystem())

    def hot_zone(self, mapped_name: str) -> str | None:  # noqa: ARG002  # there is one
        return self.node.boot.hot_zone

    def fail_hot_zone(self, hot_zone_name: str) -> None:
        if self.node.hot_zone_problem:
            raise DeviceError(self.node.hot_zone_problem)
        self.node.failed_hot_zones.append(hot_zone_name)

    def format_lock(self, device: Device) -> AbstractContextManager[None]:
        return self.system.format_lock(device)

    def volume_lock(self, volume: str) -> AbstractContextManager[None]:
        return self.system.volume_lock(volume)

    def erase_head(self, device: Device) -> None:
        self.system.erase_head(device)

    def erase(self, device: Device, passes: tuple[tuple[Range, ...], ...], *, exclusive: bool) -> str:
        if exclusive and self.node.boot.mapping is not None:
            raise AssertionError("erasing both ends below an open mapping")
        return self.system.erase(device, passes, exclusive=exclusive)

    def overwrite(self, device: Device, position_bytes: int) -> Iterator[int]:
        yield from self.system.overwrite(device, position_bytes)

    def discard(self, device: Device) -> str | None:
        return self.system.discard(device)

    def why_untouchable(self, device: Device) -> str | None:
        return self.system.why_untouchable(device)

    def hardware(self, device: Device) -> Hardware:
        return self.system.hardware(device)

    def make_filesystem(
        self, path: str, filesystem: Filesystem, label: str, *, uuid: str | None, size_bytes: int
    ) -> None:
        if not path.startswith("/dev/mapper/"):
            self.system.make_filesystem(path, filesystem, label, uuid=uuid, size_bytes=size_bytes)
            return
        self.node.inside.write_text(self.node.boot.opened_with, encoding="ascii")
