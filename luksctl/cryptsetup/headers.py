"""The Headers port over this library: every call opens the device afresh, so no handle ever grows stale.

What only reads works on a copy of the header in memory, since libcryptsetup mends a damaged copy while it loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.kdf import DEFAULT_BOUNDS, KdfBounds
from luksctl.cryptsetup.ondisk import Pread
from luksctl.errors import CryptsetupError
from luksctl.model import probe
from luksctl.model.config import DEFAULT_CIPHER, KdfCost
from luksctl.model.header import HeaderCopies
from luksctl.model.intent import MovedSlot, ReencryptIntent
from luksctl.model.ports import Activation, HeaderFormat
from luksctl.secret import Secret
from luksctl.units import KIB, MIB

# (path, offset, length) → the bytes on the medium there.
MediumRead = Callable[[str, int, int], bytes]

# Both layouts put the data at 16 MiB, as Talos and cryptsetup do. Talos reads 16 KiB headers only; 64 KiB hold 32
# slots with a full TPM token each.
_DATA_OFFSET_BYTES = 16 * MIB
_TALOS_METADATA_BYTES = 16 * KIB
_LARGE_METADATA_BYTES = 64 * KIB


class LuksHeaders:
    """libcryptsetup at work on one device; see model.ports.Headers. `read` reads the medium, not the page cache.

    `before_removal` is called before a keyslot is destroyed, while all is still there.
    """

    def __init__(
        self,
        read: MediumRead,
        bounds: KdfBounds = DEFAULT_BOUNDS,
        before_removal: Callable[[probe.Device], None] | None = None,
    ) -> None:
        self._read = read
        self._before_removal = before_removal
        self._bounds = bounds

    def format(self, device: probe.Device, how: HeaderFormat, volume_key: Secret) -> None:
        """Write a new header without keyslots. Cut: zeros, random bytes, or one or two copies."""
        from luksctl.cryptsetup.formatting import FormatParameters  # noqa: PLC0415  # a boot's start is timed

        metadata_size_bytes = _TALOS_METADATA_BYTES if how.talos_readable else _LARGE_METADATA_BYTES
        parameters = FormatParameters(
            cipher=how.encryption.cipher or DEFAULT_CIPHER,
            volume_key_size_bytes=len(volume_key),
            sector_size_bytes=how.encryption.block_size_bytes,
            uuid=how.uuid,
            subsystem=how.subsystem,
            metadata_size_bytes=metadata_size_bytes,
            keyslots_size_bytes=_DATA_OFFSET_BYTES - 2 * metadata_size_bytes,
            data_offset_bytes=_DATA_OFFSET_BYTES,
        )
        with _named(device), Device.blank(device.path, bounds=self._bounds) as luks:
            luks.format(parameters, volume_key)

    def add_keyslot(self, device: probe.Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost) -> None:
        """Write `key` into the free `slot`, then sync. Cut: the slot is not there, or there and whole."""
        with self._open(device) as luks:
            luks.keyslots.add_by_volume_key(slot, key, volume_key, kdf)

    def write_token(self, device: probe.Device, number: int, token: str) -> None:
        """Write (or replace) token `number`. Cut: the old token or the new one."""
        with self._open(device) as luks:
            luks.tokens.set(number, token)

    def remove_keyslot(self, device: probe.Device, slot: int) -> None:
        """Destroy `slot`, then sync. Cut: the slot is still listed, and dead."""
        if self._before_removal is not None:
            self._before_removal(device)
        with self._open(device) as luks:
            luks.keyslots.destroy(slot)

    def remove_token(self, device: probe.Device, number: int) -> None:
        """Remove token `number`. Cut: it is there or not."""
        with self._open(device) as luks:
            luks.tokens.remove(number)

    def slot_digests(self, device: probe.Device, slots: tuple[int, ...]) -> dict[int, bytes]:
        """Return what each slot of `slots` is now, in one number (slot_digest.py). Writes nothing."""
        from luksctl.cryptsetup.slot_digest import slot_digests  # noqa: PLC0415  # as format

        with _named(device):
            return slot_digests(copy_header(self._pread(device), device.size_bytes, slots), slots)

    def test_key(self, device: probe.Device, slot: int, key: Secret) -> None:
        """Open `slot` with `key` without activating anything. Writes nothing."""
        with self._open_copy(device, (slot,)) as luks:
            luks.test_key(key, slot=slot)

    def volume_key(self, device: probe.Device, slot: int, key: Secret) -> Secret:
        """Return the volume key that `slot` yields to `key`; one KDF run. Writes nothing."""
        with self._open_copy(device, (slot,)) as luks:
            return luks.volume_key(key, slot=slot)

    def activate(self, device: probe.Device, mapped_name: str, volume_key: Secret, how: Activation) -> None:
        """Open as /dev/mapper/`mapped_name` from a checked copy of the header. Writes nothing."""
        from luksctl.cryptsetup.mappings import activate_flags  # noqa: PLC0415  # first the key, which may take long

        with self._open_copy(device, ()) as luks:
            luks.mappings.activate_by_volume_key(mapped_name, volume_key, flags=activate_flags(how))

    def activate_reencrypting(self, device: probe.Device, mapped_name: str, key: Secret, how: Activation) -> None:
        """Open what is being re-encrypted from the header itself, by any slot. Cut: the hot zone is torn as before.

        The library refuses metadata that the volume keys do not vouch for, before it mends anything.
        """
        from luksctl.cryptsetup.mappings import activate_flags  # noqa: PLC0415  # as activate

        self.put_back_unbegun(device)
        self._conclude(device, key)
        with self._open(device) as luks:
            luks.mappings.activate_by_passphrase(mapped_name, key, flags=activate_flags(how))

    def put_back_unbegun(self, device: probe.Device) -> None:
        """Take a hot zone back whose record may not have arrived, before the library believes the header."""
        from luksctl.cryptsetup.reencrypt_end import put_back_unbegun  # noqa: PLC0415  # as format

        with _named(device):
            put_back_unbegun(device.header_path, device.size_bytes, self._pread(device))

    def why_not_reencrypt(self) -> str | None:
        """Say why the installed libcryptsetup must not re-encrypt, or None."""
        from luksctl.cryptsetup.soundness import why_not_reencrypt  # noqa: PLC0415  # as format

        return why_not_reencrypt()

    def add_new_keyslot(
        self, device: probe.Device, slot: int, key: Secret, volume_key: Secret, kdf: KdfCost, *, first: bool
    ) -> None:
        """Write `key` into the free `slot`, bound to no data, then sync. Cut: it is not there, or there and whole."""
        with self._open(device) as luks:
            luks.keyslots.add_unbound(slot, key, volume_key, kdf, known_key=not first)

    def start_reencryption(
        self, device: probe.Device, key: Secret, slots: MovedSlot, how: ReencryptIntent, mapped_name: str | None
    ) -> None:
        """Write the plan into the header. Cut: started or not."""
        from luksctl.cryptsetup import reencryption  # noqa: PLC0415  # as format

        with self._open(device) as luks:
            luks.reencryption.start(
                reencryption.parameters_of(how),
                key,
                old_slot=slots.old,
                new_slot=slots.new,
                active_name=mapped_name,
                flags=reencryption.ReencryptFlag.INITIALIZE_ONLY,
            )

    def run_reencryption(
        self,
        device: probe.Device,
        key: Secret,
        how: ReencryptIntent,
        mapped_name: str | None,
        progress: Callable[[int, int], None],
    ) -> None:
        """Mend a torn hot zone, and re-encrypt to the end. Cut: a torn hot zone."""
        from luksctl.cryptsetup.next_hot_zone import expect_readable  # noqa: PLC0415  # as format
        from luksctl.cryptsetup.reencryption import go_on  # noqa: PLC0415  # as format

        if mapped_name is None and self._conclude(device, key):
            return
        self.put_back_unbegun(device)
        with self._open(device) as luks:
            if mapped_name is not None:
                expect_readable(luks, how, lambda offset, length: self._read(device.path, offset, length))
            go_on(luks.reencryption, how, key, mapped_name, progress)

    def end_reencryption(self, device: probe.Device, how: ReencryptIntent) -> None:
        """Write the header that ends a re-encryption whose data is done. Cut: as before, or ended."""
        from luksctl.cryptsetup.reencrypt_end import end_reencryption  # noqa: PLC0415  # as format

        with _named(device):
            end_reencryption(device.path, device.size_bytes, self._pread(device), how)

    def _conclude(self, device: probe.Device, key: Secret) -> bool:
        """Write the last header of an encryption in place that was cut just before it; tell whether that was so.

        Only below a volume that is closed: the copy of its head is overwritten first, and a filesystem that is mounted
        may grow to there.
        """
        from luksctl.cryptsetup import in_place  # noqa: PLC0415  # as format

        with self._open(device) as luks:
            copy = in_place.all_but_concluded(luks.header.json())
            if copy is None:
                return False
            in_place.forget_copy(luks, copy, key)
        with _named(device):
            in_place.conclude_encryption(device.path, device.size_bytes, self._pread(device))
        return True

    def deactivate(self, mapped_name: str) -> None:
        """Close the mapping."""
        from luksctl.cryptsetup.mappings import deactivate  # noqa: PLC0415  # as format

        deactivate(mapped_name)

    def clear_subsystem(self, device: probe.Device) -> None:
        """Take the subsystem out of both header copies and sync. Cut: copy 1 without it is the newer one."""
        with self._open(device) as luks:
            luks.header.set_label("", "")

    def repair(self, device: probe.Device) -> None:
        """Make both copies equal to the valid, newer one: what libcryptsetup does by loading. Cut: that one stays."""
        with self._open(device):
            pass

    def save_header(self, device: probe.Device) -> bytes:
        """Return the header with its key areas as the content of a backup file. Writes nothing."""
        from luksctl.cryptsetup.header_bytes import backup_of  # noqa: PLC0415  # as format

        with _named(device):
            return backup_of(copy_header(self._pread(device), device.size_bytes))

    def restore_header(self, device: probe.Device, content: bytes, seen: HeaderCopies) -> None:
        """Write a saved header back, sync, and read it back; see header_restore.py, also for what a cut leaves.

        libcryptsetup has to load it first. Refused where the copies on the device are not `seen` any more.
        """
        from luksctl.cryptsetup.header_restore import restore_header  # noqa: PLC0415  # as format

        with _named(device):
            restore_header(device.path, device.size_bytes, self._pread(device), content, seen)

    def begin_encryption(
        self, device: probe.Device, scratch: probe.Device, cipher: str, key: Secret, slot: int
    ) -> probe.Range:
        """Begin to encrypt `device` in place by the header in `scratch`; in_place.py says what a cut leaves."""
        from luksctl.cryptsetup.in_place import begin_encryption  # noqa: PLC0415  # as format

        with _named(device):
            return begin_encryption(scratch.path, device.path, cipher, key, slot, self._bounds)

    def place_header(self, device: probe.Device, scratch: probe.Device, uuid: str) -> None:
        """Write the header in `scratch` over the head of `device`; see in_place.py, also for what a cut leaves."""
        from luksctl.cryptsetup.in_place import place_header  # noqa: PLC0415  # as format

        with _named(device):
            place_header(scratch.path, device.path, self._pread(device), uuid)

    def begin_decryption(self, device: probe.Device, key: Secret, slot: int) -> None:
        """Begin to decrypt `device` in place by its detached header; in_place.py says what a cut leaves."""
        from luksctl.cryptsetup.in_place import begin_decryption  # noqa: PLC0415  # as format

        with _named(device):
            begin_decryption(device.header, device.path, key, slot, self._bounds)

    @contextmanager
    def _open(self, device: probe.Device) -> Iterator[Device]:
        with _named(device), self._opened(device) as luks:
            yield luks

    def _opened(self, device: probe.Device) -> Device:
        if device.header:
            return Device.detached(device.header, device.path, bounds=self._bounds)
        return Device.open(device.path, bounds=self._bounds)

    @contextmanager
    def _open_copy(self, device: probe.Device, slots: tuple[int, ...]) -> Iterator[Device]:
        """Open a copy of the header with the key areas of `slots`, which are all that the caller tries."""
        with _named(device):
            image = copy_header(self._pread(device), device.size_bytes, slots)
            with Device.from_copy(image, device.path, bounds=self._bounds) as luks:
                yield luks

    def _pread(self, device: probe.Device) -> Pread:
        return lambda offset, length: self._read(device.header_path, offset, length)


@contextmanager
def _named(device: probe.Device) -> Iterator[None]:
    """Make errors name the device in the operation: which volume it is, the caller knows."""
    try:
        yield
    except CryptsetupError as error:
        error.operation = f"{error.operation} on {device.path}"
        error.volume = None
        raise
