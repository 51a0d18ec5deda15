"""What observe and apply need of the world, as Protocols; wiring.py joins the real adapters.

Every method that writes is synced to the medium when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from luksctl.errors import Refused
from luksctl.hints import TYPE_CHECKING, Protocol
from luksctl.model.config import ConfiguredKey, EncryptionPolicy, Filesystem, KdfCost, VolumeEncryption, VolumeSettings
from luksctl.model.header import HeaderCopies
from luksctl.model.intent import MovedSlot, ReencryptIntent
from luksctl.model.meta import KeptAccess, MetaFacts, NodeRecord
from luksctl.model.observed import Ambiguous, Mapping, Missing
from luksctl.model.probe import Device, Hardware, Range, Signature
from luksctl.model.sealing import Sealing, Vouching
from luksctl.secret import Secret
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.model.in_place import InPlaceDisks


@frozen
class MadeKey:
    """A fresh key for a slot and the token that lets its provider recover it (None: no token)."""

    key: Secret
    token: str | None = None


@frozen
class HeaderFormat:
    """How to write a new header. `volume_key` is ours, so that keyslots can be added without any passphrase."""

    uuid: str
    subsystem: str
    encryption: VolumeEncryption
    talos_readable: bool


@frozen
class Activation:
    """dm-crypt options of one opening."""

    options: tuple[str, ...] = ()
    allow_discards: bool = False
    read_only: bool = False


class KeyProvider(Protocol):
    """One kind of key: who can make or recover the key of a slot. The contract suite in tests/providers holds for all.

    Both raise ProviderUnavailable when retrying may help, and KeyRejected when this machine can never have the key (it
    has no UUID, say). `recover` raises TokenInvalid when the token is missing or not its own.
    """

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Make the key (and token) for the slot of `volume`."""

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Yield the candidates that may open the slot, likeliest first (at least one); the caller closes each."""

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:
        """Say, if it can be known, why no candidate opened the slot ("formatted on another machine")."""


class Headers(Protocol):
    """libcryptsetup at work on one device. All raise CryptsetupError; wrong keys raise SlotPassphraseRejected."""

    def format(self, device: Device, how: HeaderFormat, volume_key: Secret) -> None:
        """Write a new header without keyslots. Cut: zeros, random bytes, or one or two copies."""

    def add_keyslot(self, device: Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost) -> None:
        """Write `key` into the free `slot`, then sync."""

    def write_token(self, device: Device, number: int, token: str) -> None:
        """Write (or replace) token `number`."""

    def remove_keyslot(self, device: Device, slot: int) -> None:
        """Destroy `slot`, then sync. Cut: the slot is still listed, and dead."""

    def remove_token(self, device: Device, number: int) -> None:
        """Remove token `number`."""

    def slot_digests(self, device: Device, slots: tuple[int, ...]) -> dict[int, bytes]:
        """Return a SHA-256 over all that makes each slot of `slots` what it is; slots that are not there are left out.

        Its JSON, the digests that name it, and its key area as they are on the medium. Writes nothing.
        """

    def save_header(self, device: Device) -> bytes:
        """Return the header with its key areas as the content of a backup file. Writes nothing."""

    def restore_header(self, device: Device, content: bytes, seen: HeaderCopies) -> None:
        """Write a saved header back; Refused where the copies on the device are not `seen` any more.

        Cut: the header before or the saved one, whole; without a valid one before, perhaps none.
        """

    def test_key(self, device: Device, slot: int, key: Secret) -> None:
        """Open `slot` with `key` without activating anything. Reads the header from the medium, writes nothing."""

    def volume_key(self, device: Device, slot: int, key: Secret) -> Secret:
        """Return the volume key that `slot` yields to `key`; one KDF run. Writes nothing."""

    def activate(self, device: Device, mapped_name: str, volume_key: Secret, how: Activation) -> None:
        """Open as /dev/mapper/`mapped_name` from a checked copy of the header. Writes nothing."""

    def activate_reencrypting(self, device: Device, mapped_name: str, key: Secret, how: Activation) -> None:
        """Open what is being re-encrypted, by a key that opens a keyslot of both volume keys.

        A hot zone that was torn is mended first, which writes.
        """

    def why_not_reencrypt(self) -> str | None:
        """Say why the installed libcryptsetup must not re-encrypt, or None."""

    def add_new_keyslot(
        self, device: Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost, *, first: bool
    ) -> None:
        """Write `key` into the free `slot` for the new `volume_key`, which no data has yet; `first` of all for it."""

    def start_reencryption(
        self, device: Device, key: Secret, slots: MovedSlot, how: ReencryptIntent, mapped_name: str | None
    ) -> None:
        """Write the plan into the header; `key` opens both of `slots`. Cut: started or not."""

    def run_reencryption(
        self,
        device: Device,
        key: Secret,
        how: ReencryptIntent,
        mapped_name: str | None,
        progress: Callable[[int, int], None],
    ) -> None:
        """Re-encrypt to the end, telling `progress` how many bytes of how many are done; what it raises stops it.

        NeedsReboot where it was killed in the middle of a hot zone below an open mapping. Cut: a torn hot zone.
        """

    def end_reencryption(self, device: Device, how: ReencryptIntent) -> None:
        """Write the header that ends a re-encryption whose data is done; see cryptsetup/reencrypt_end.py.

        Refused where it may not be. Cut: as before, or ended.
        """

    def deactivate(self, mapped_name: str) -> None:
        """Close the mapping."""

    def clear_subsystem(self, device: Device) -> None:
        """Take the mark out of both header copies and sync."""

    def repair(self, device: Device) -> None:
        """Make both copies equal to the valid, newer one, sync, and check that they are."""

    def begin_encryption(self, device: Device, scratch: Device, cipher: str, key: Secret, slot: int) -> Range:
        """Begin to encrypt `device` in place by the header in `scratch`, which `key` opens by `slot`.

        The head is copied behind the data, and synced; return where to. Cut: it is where it was, too.
        """

    def place_header(self, device: Device, scratch: Device, uuid: str) -> None:
        """Write the header `uuid` in `scratch` over the head of `device`, sync, read it back.

        Cut: no copy of it is whole, or it is all there but for the other copy.
        """

    def begin_decryption(self, device: Device, key: Secret, slot: int) -> None:
        """Begin to decrypt `device` in place by its detached header, which `key` opens by `slot`.

        The first of the data is copied over the header on the device, and synced; unless the header says that this was
        begun already. Cut: the data is where it was, too.
        """


class Disks(Protocol):
    """Devices and what is on them; reads go to the medium, not the page cache."""

    def find(self, volume: str, settings: VolumeSettings, *, timeout_s: float) -> Device | Missing | Ambiguous:
        """Find the device of `volume`, waiting for it up to `timeout_s`."""

    def header_copies(self, device: Device) -> HeaderCopies:
        """Read and check both LUKS header copies."""

    def signature(self, path: str) -> Signature | None:
        """Return what libblkid finds, or None for nothing."""

    def is_zero(self, device: Device) -> bool:
        """Tell whether the head and the tail that define Blank read as zeros."""

    def in_use(self, device: Device) -> str | None:
        """Return who holds the device (a mapping, a mount), or None."""

    def mapping(self, mapped_name: str) -> Mapping | None:
        """Return the active mapping of that name with its backing device, or None."""

    def hot_zone(self, mapped_name: str) -> str | None:
        """Return the name of the mapping that a re-encryption has for its hot zone below `mapped_name`, or None."""

    def fail_hot_zone(self, hot_zone_name: str) -> None:
        """Let what waits for the hot zone of a run that broke off fail, instead of waiting for ever."""

    def format_lock(self, device: Device) -> AbstractContextManager[None]:
        """Hold the whole disk's flock around probe, format and mkfs; Busy after the lock timeout."""

    def volume_lock(self, volume: str) -> AbstractContextManager[None]:
        """Hold our own lock of the volume; Busy after the lock timeout."""

    def erase_head(self, device: Device) -> None:
        """Zero the bytes at the head that Blank asks about, and sync. Cut: some of them are zero."""

    def erase(self, device: Device, passes: tuple[tuple[Range, ...], ...], *, exclusive: bool) -> str:
        """Write zeros over the ranges, sync after each pass, read all of them back; return how that was done.

        DeviceError where a byte is not zero then. `exclusive` refuses a device that anybody holds. Cut: the passes
        before, and some of this one.
        """

    def overwrite(self, device: Device, position_bytes: int) -> Iterator[int]:
        """Write zeros from `position_bytes` to the end; yield the position up to which they were synced and read back.

        What reads as zeros already is not written.
        """

    def discard(self, device: Device) -> str | None:
        """Tell the device that all of it is free; return why it was not told, or None where it was."""

    def why_untouchable(self, device: Device) -> str | None:
        """Say why the device may not be erased in any case (the system runs from it, it is read-only), or None."""

    def hardware(self, device: Device) -> Hardware:
        """Return what the kernel knows of the disk below the device."""

    def make_filesystem(
        self, path: str, filesystem: Filesystem, label: str, *, uuid: str | None, size_bytes: int
    ) -> None:
        """Make the filesystem within `size_bytes` (0: all of it) and sync. Cut: a torn filesystem."""


class MetaStore(Protocol):
    """META on its partition or file; each change is one write of both copies, A synced before B."""

    def load(self) -> MetaFacts:
        """Read META; never writes. MetaError only when the device cannot be read."""

    def repair(self) -> None:
        """Rewrite the bad or older copy from the valid one."""

    def update_record(self, change: Callable[[NodeRecord], NodeRecord]) -> None:
        """Read our record, change it, write it. MetaError where META is absent or unreadable."""

    def write_state_encryption(self, encryption: VolumeEncryption | None) -> None:
        """Write tag 9 in the modern form, or delete it."""

    def start_over(self, record: NodeRecord) -> None:
        """Let META say nothing but `record`, whatever it said before, also where neither copy was valid.

        Cut: what it said, or the record.
        """

    def write_kms_access(self, kept: KeptAccess | None) -> None:
        """Write what the KMS of STATE is reached by, or delete it."""


def _nothing_in_place() -> InPlaceDisks:
    raise Refused("nothing is encrypted in place here")


@frozen
class Ports:
    """The world as reconcile sees it. `vouching` says of a key and its token what another one would be worth.

    It raises ProviderUnavailable and KeyRejected as a provider does. `deviation` says how the token of a key that works
    is not as the config wants it, or None (TokenInvalid where it is none). All go by the policy of the config that
    rules, and in what `under` returns by another one. `remember` is told which lost keys of a volume a run is about to
    replace, before its first step; it raises DeviceError where that cannot be kept, and then nothing is replaced.
    `in_place` is asked for only where something is encrypted or decrypted in place; `scratch_dir` is in memory.
    """

    disks: Disks
    headers: Headers
    meta: MetaStore
    provider: Callable[[ConfiguredKey], KeyProvider]
    vouching: Callable[[ConfiguredKey, str | None], Vouching] = lambda _key, _token: Vouching()
    deviation: Callable[[ConfiguredKey, str | None], str | None] = lambda _key, _token: None
    remember: Callable[[str, tuple[Sealing, ...]], None] = lambda _volume, _sealing: None
    by_policy: Callable[[Ports, EncryptionPolicy], Ports] = lambda ports, _policy: ports
    in_place: Callable[[], InPlaceDisks] = _nothing_in_place
    scratch_dir: str = "/run/luksctl"

    def under(self, policy: EncryptionPolicy) -> Ports:
        """Return the same world with keys made and recovered by `policy`."""
        return self.by_policy(self, policy)
