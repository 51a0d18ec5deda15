"""A world of ports in memory: one volume on one device, META, and providers that can fail on command.

Faults: `fail[name]` makes the port call of that name raise, `after[name]` runs when it is called; `Power.cut_at` cuts
the power at a write. `calls` lists the port calls in order, reads included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from luksctl.errors import CryptsetupError, LuksctlError, MetaError, NotBlank, SlotPassphraseRejected
from luksctl.model.config import (
    STATE,
    ByLabel,
    EncryptionPolicy,
    Filesystem,
    KdfCost,
    VolumeEncryption,
    VolumeSettings,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import HeaderCopies, Keyslot, LuksHeader, Segment, Token
from luksctl.model.intent import FormatIntent, Intent
from luksctl.model.meta import KeptAccess, MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import Ambiguous, Mapping, Missing, Observed
from luksctl.model.ports import Activation, HeaderFormat, Ports
from luksctl.model.probe import Device, Hardware, Range, Signature
from luksctl.model.step import Done
from luksctl.reconcile.converge import Look, converge, look
from luksctl.reconcile.observe import observe
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace
from tests.reconcile.medium import Medium, MetaContent, MetaMedium, Power
from tests.reconcile.not_reencrypted import NoHotZone, NothingReencrypted
from tests.reconcile.providers import FakeProviders

PARTUUID = "11111111-1111-4111-8111-111111111111"
DEVICE = Device("/dev/sda3", 100 * MIB, PARTUUID, "/dev/sda")
SETTINGS = VolumeSettings(ByLabel("STATE"))


def bytes_of(secret: Secret) -> bytes:
    """Return the bytes of a secret; only a fake may."""
    with secret.view() as view:
        return bytes(view)


@dataclass
class World:
    """The media, the machine's memory, and the faults. It is the Disks, Headers and MetaStore port itself."""

    power: Power = field(default_factory=Power)
    found: Device | Missing | Ambiguous = DEVICE
    holder: str | None = None
    open_mapping: Mapping | None = None
    opened_with: bytes = b""
    fail: dict[str, LuksctlError] = field(default_factory=dict)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    keys: FakeProviders = field(default_factory=FakeProviders)
    medium: Medium = field(init=False)
    meta: MetaMedium = field(init=False)

    def __post_init__(self) -> None:
        self.medium = Medium(self.power)
        self.meta = MetaMedium(self.power)

    @property
    def ports(self) -> Ports:
        """Return the world as reconcile sees it."""
        return Ports(_Disks(self), _Headers(self), _Meta(self), self.keys.provider)

    def call(self, name: str) -> None:
        """Note a port call, and fail it if the test asked for that."""
        self.calls.append(name)
        if name in self.after:
            self.after[name]()
        if name in self.fail:
            raise self.fail[name]

    def reboot(self) -> None:
        """Give power back: what is on the media stays."""
        self.power = Power()
        self.medium.power = self.meta.power = self.power
        self.open_mapping, self.opened_with, self.held = None, b"", []

    def observe(self, volume: str = STATE) -> Observed:
        """Return what observe makes of it."""
        return observe(volume, SETTINGS, f"luks2-{volume}", self.meta.facts(), self.ports.disks)

    def look(self, desired: DesiredVolume) -> Look:
        """Observe and plan."""
        return look(desired, SETTINGS, self.ports)

    def converge(self, desired: DesiredVolume) -> list[Done]:
        """Converge, and return every step taken."""
        return list(converge(desired, SETTINGS, self.ports))


def wish(
    encryption: VolumeEncryption | None,
    volume: str = STATE,
    policy: EncryptionPolicy | None = None,
    refusal: str | None = None,
) -> DesiredVolume:
    """Return a wish that may format, with cheap key derivation."""
    cheap = EncryptionPolicy(kdf=KdfCost(4, 64, 1)) if policy is None else policy
    return DesiredVolume(volume, encryption, cheap, refusal)


@dataclass
class _Disks(NoHotZone):
    world: World

    def find(self, volume: str, settings: VolumeSettings, *, timeout_s: float) -> Device | Missing | Ambiguous:
        self.world.call(f"find {volume} in {settings.location} for {timeout_s:g} s")
        return self.world.found

    def header_copies(self, device: Device) -> HeaderCopies:
        self.world.call(f"header_copies {device.path}")
        return self.world.medium.copies()

    def signature(self, path: str) -> Signature | None:
        self.world.call(f"signature {path}")
        return self.world.medium.signature()

    def is_zero(self, device: Device) -> bool:
        self.world.call(f"is_zero {device.path}")
        return self.world.medium.is_zero()

    def in_use(self, device: Device) -> str | None:
        self.world.call(f"in_use {device.path}")
        return self.world.holder

    def mapping(self, mapped_name: str) -> Mapping | None:
        found = self.world.open_mapping
        if found is None or found.name != mapped_name:
            return None
        return replace(found, signature=found.signature or self.world.medium.inside.get(self.world.opened_with))

    def format_lock(self, device: Device) -> _Held:
        return _Held(self.world, f"disk {device.disk or device.path}")

    def volume_lock(self, volume: str) -> _Held:
        return _Held(self.world, f"volume {volume}")

    def erase_head(self, device: Device) -> None:
        self.world.call(f"erase_head {device.path}")
        self.world.medium.erase()

    def erase(self, device: Device, passes: tuple[tuple[Range, ...], ...], *, exclusive: bool) -> str:
        world = self.world
        world.call(f"erase {device.path} in {len(passes)} passes")
        _expect(not (exclusive and world.open_mapping), "erasing both ends below an open mapping")
        for slot in tuple(world.medium.areas):
            world.medium.wipe_key(slot)
        world.medium.erase()
        return "read back"

    def overwrite(self, device: Device, position_bytes: int) -> Iterator[int]:
        self.world.call(f"overwrite {device.path} from {position_bytes}")
        _expect(self.world.open_mapping is None, "overwriting below an open mapping")
        self.world.medium.erase()
        yield device.size_bytes

    def discard(self, device: Device) -> str | None:
        self.world.call(f"discard {device.path}")
        _expect(self.world.open_mapping is None, "discarding below an open mapping")
        return None

    def why_untouchable(self, device: Device) -> str | None:
        raise AssertionError(f"no step asks that of {device.path}")

    def hardware(self, device: Device) -> Hardware:
        raise AssertionError(f"no step asks that of {device.path}")

    def make_filesystem(
        self, path: str, filesystem: Filesystem, label: str, *, uuid: str | None, size_bytes: int
    ) -> None:
        world = self.world
        world.call("make_filesystem")
        made = Signature(filesystem.value, label, uuid or "a1b2", "filesystem")
        world.power.write("mkfs begins")
        if path != DEVICE.path:
            _expect(world.open_mapping is not None, "mkfs on a mapping that is not open")
            world.power.write("mkfs ends")
            world.medium.inside[world.opened_with] = made
            return
        _expect(world.open_mapping is None, "mkfs below an open mapping")
        if world.medium.signature() is not None:
            raise NotBlank(f"{path} holds something; no filesystem is made over it")
        _expect(size_bytes > 0, "mkfs without a size")
        world.medium.noise = True
        world.power.write("mkfs: superblock")
        world.medium.filesystem = made
        world.power.write("mkfs ends")


class _Held:
    """A lock; taking it twice would wait for ever."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    def __enter__(self) -> None:
        self._world.call(f"lock {self._name}")
        _expect(self._name not in self._world.held, "locked twice")
        self._world.held.append(self._name)

    def __exit__(self, *_: object) -> None:
        if self._name in self._world.held:
            self._world.held.remove(self._name)
        self._world.calls.append(f"unlock {self._name}")


@dataclass
class _Headers(NothingReencrypted):
    world: World

    def format(self, device: Device, how: HeaderFormat, volume_key: Secret) -> None:
        world = self.world
        world.call(f"format {device.path}")
        _expect(world.open_mapping is None, "format below an open mapping")
        segment = Segment(0, "crypt", how.encryption.cipher or "aes-xts-plain64", 4096, 16 * MIB)
        header = LuksHeader(how.uuid, "", how.subsystem, 1, 0x4000, (), (), (segment,), 1000, (), (), "{}")
        world.medium.format(header, bytes_of(volume_key))

    def add_keyslot(self, device: Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost) -> None:
        self.world.call(f"add_keyslot {slot}")
        header = self._load(device)
        _expect(bytes_of(volume_key) == self.world.medium.digest_key, "a volume key that is not this header's")
        _expect(header.keyslot(slot) is None, f"slot {slot} is taken")
        self.world.medium.put_key(slot, bytes_of(key), bytes_of(volume_key))
        added = Keyslot(slot, "argon2id", kdf.time, kdf.memory_kib, kdf.threads, None, "aes-xts-plain64")
        self._change(replace(header, keyslots=(*header.keyslots, added)))

    def write_token(self, device: Device, number: int, token: str) -> None:
        self.world.call(f"write_token {number}")
        header = self._load(device)
        others = tuple(other for other in header.tokens if other.number != number)
        self._change(replace(header, tokens=(*others, _token(number, token))))

    def remove_keyslot(self, device: Device, slot: int) -> None:
        self.world.call(f"remove_keyslot {slot}")
        header = self._load(device)
        _expect(header.keyslot(slot) is not None, f"slot {slot} is not there")
        self.world.medium.wipe_key(slot)
        kept = tuple(keyslot for keyslot in header.keyslots if keyslot.number != slot)
        tokens = tuple(
            replace(token, keyslots=tuple(number for number in token.keyslots if number != slot))
            for token in header.tokens
        )
        self._change(replace(header, keyslots=kept, tokens=tokens))

    def remove_token(self, device: Device, number: int) -> None:
        self.world.call(f"remove_token {number}")
        header = self._load(device)
        self._change(replace(header, tokens=tuple(other for other in header.tokens if other.number != number)))

    def slot_digests(self, device: Device, slots: tuple[int, ...]) -> dict[int, bytes]:
        self.world.call("slot_digests")
        header = self._best(device)
        found = {slot: header.keyslot(slot) for slot in slots}
        areas = self.world.medium.areas
        return {
            slot: hashlib.sha256(repr((keyslot, areas.get(slot))).encode()).digest()
            for slot, keyslot in found.items()
            if keyslot is not None
        }

    def save_header(self, device: Device) -> bytes:
        self.world.call("save_header")
        return self._best(device).json.encode()

    def restore_header(self, device: Device, content: bytes, seen: HeaderCopies) -> None:
        raise AssertionError(f"no step restores a header: {device.path}, {len(content)} bytes, {seen.state}")

    def begin_encryption(self, device: Device, scratch: Device, cipher: str, key: Secret, slot: int) -> Range:
        key.close()
        raise AssertionError(f"nothing is encrypted in place here: {device.path}, {scratch.path}, {cipher}, {slot}")

    def place_header(self, device: Device, scratch: Device, uuid: str) -> None:
        raise AssertionError(f"nothing is encrypted in place here: {device.path}, {scratch.path}, {uuid}")

    def begin_decryption(self, device: Device, key: Secret, slot: int) -> None:
        key.close()
        raise AssertionError(f"nothing is decrypted in place here: {device.path}, {slot}")

    def test_key(self, device: Device, slot: int, key: Secret) -> None:
        self.world.call(f"test_key {slot}")
        self._opened(device, slot, key)

    def volume_key(self, device: Device, slot: int, key: Secret) -> Secret:
        self.world.call(f"volume_key {slot}")
        return self.world.keys.track(Secret.take(self._opened(device, slot, key)))

    def activate(self, device: Device, mapped_name: str, volume_key: Secret, how: Activation) -> None:
        world = self.world
        world.call(
            f"activate {mapped_name} {','.join(how.options)}{' discards' if how.allow_discards else ''}".rstrip()
        )
        self._best(device)
        _expect(world.open_mapping is None, "it is open already")
        _expect(bytes_of(volume_key) == world.medium.digest_key, "a volume key that is not this header's")
        world.open_mapping = Mapping(mapped_name, f"/dev/mapper/{mapped_name}", device.path)
        world.opened_with = bytes_of(volume_key)

    def deactivate(self, mapped_name: str) -> None:
        self.world.call(f"deactivate {mapped_name}")
        self.world.open_mapping, self.world.opened_with = None, b""

    def clear_subsystem(self, device: Device) -> None:
        self.world.call("clear_subsystem")
        self._change(replace(self._load(device), subsystem=""))

    def repair(self, device: Device) -> None:
        self.world.call("repair")
        self._load(device)

    def _best(self, device: Device) -> LuksHeader:
        best = self.world.medium.copies().best
        if best is None:
            raise CryptsetupError(f"{device.path} is not a valid LUKS device", errno=22)
        return best

    def _load(self, device: Device) -> LuksHeader:
        """Load as libcryptsetup does: a copy that is damaged or older is mended on the way."""
        best = self._best(device)
        self.world.medium.mend(best)
        return best

    def _change(self, header: LuksHeader) -> None:
        self.world.medium.change(replace(header, seqid=header.seqid + 1))

    def _opened(self, device: Device, slot: int, key: Secret) -> bytes:
        area = self.world.medium.areas.get(slot)
        if self._best(device).keyslot(slot) is None or area is None or area.key != bytes_of(key):
            raise SlotPassphraseRejected("no key available with this passphrase", errno=1, slot=slot)
        _expect(area.volume_key == self.world.medium.digest_key, "a volume key that is not this header's")
        return area.volume_key


@dataclass
class _Meta:
    world: World

    def load(self) -> MetaFacts:
        self.world.call("meta load")
        return self.world.meta.facts()

    def repair(self) -> None:
        self.world.call("meta repair")
        self._content()
        self.world.meta.mend()

    def update_record(self, change: Callable[[NodeRecord], NodeRecord]) -> None:
        content = self._content()
        changed = change(content.record)
        self.world.call("meta record: " + ", ".join(f"attempt {i.attempt} {_phase(i)}" for i in changed.intents))
        self.world.meta.put(replace(content, record=changed))

    def write_state_encryption(self, encryption: VolumeEncryption | None) -> None:
        self.world.call("meta tag 9")
        content = replace(self._content(), encryption=encryption, has_tag9=encryption is not None, tag9_problem=None)
        self.world.meta.put(content)

    def start_over(self, record: NodeRecord) -> None:
        self.world.call("meta start over")
        self.world.meta.put(MetaContent(record=record))

    def write_kms_access(self, kept: KeptAccess | None) -> None:
        self.world.call(f"meta tag 0xe1 {'without' if kept is None else 'with'} a value")

    def _content(self) -> MetaContent:
        state = self.world.meta.state()
        if state in (MetaState.ABSENT, MetaState.UNREADABLE):
            raise MetaError(f"META is {state}")
        return self.world.meta.serving() or MetaContent()


def _phase(intent: Intent) -> str:
    return intent.phase if isinstance(intent, FormatIntent) else "reset"
    return intent.phase if isinstance(intent, FormatIntent) else type(intent).__name__


def _token(number: int, text: str) -> Token:
    fields = json.loads(text)
    return Token(number, fields["type"], tuple(int(slot) for slot in fields["keyslots"]), text)


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001  # an assertion with words
    if not holds:
        raise AssertionError(otherwise)
