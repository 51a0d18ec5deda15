"""A LUKS2 device: what the library does with one header and the data behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.callbacks import ProgressCallback
from luksctl.cryptsetup.failure import Operation
from luksctl.cryptsetup.handle import ANY_SLOT, LUKS2, Handle, make_handle
from luksctl.cryptsetup.header_image import HeaderImage
from luksctl.cryptsetup.kdf import CHEAP_DIGEST, DEFAULT_BOUNDS, KdfBounds
from luksctl.cryptsetup.passing import chars_of
from luksctl.hints import TYPE_CHECKING, final
from luksctl.secret import Secret

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import CryptDevice, Out
    from luksctl.cryptsetup.formatting import FormatParameters
    from luksctl.cryptsetup.header import Header
    from luksctl.cryptsetup.keyslots import Keyslots
    from luksctl.cryptsetup.mappings import Mappings
    from luksctl.cryptsetup.reencryption import Reencryption
    from luksctl.cryptsetup.tokens import Tokens
    from luksctl.cryptsetup.wiping import WipePattern


@final
class Device:
    """One LUKS2 device, from `open`, `blank`, `detached`, `from_copy` or `active`; use it in a `with`.

    It belongs to the thread that made it, and to nobody after `close()`. Another writer of the same header makes it
    stale: its writes then fail with EINVAL; open the device again. Every error is a CryptsetupError that carries the
    library's own log lines.
    """

    __slots__ = ("_handle",)

    _handle: Handle

    def __init__(self) -> None:
        raise TypeError("a Device comes from Device.open, blank, detached, from_copy or active")

    @classmethod
    def _make(cls, handle: Handle) -> Device:
        device = object.__new__(cls)
        device._handle = handle
        return device

    @classmethod
    def _initialised(
        cls,
        init: Callable[[Out[CryptDevice]], int],
        subject: str,
        bounds: KdfBounds,
        *,
        load: bool,
        owned_fds: tuple[int, ...] = (),
    ) -> Device:
        device = cls._make(make_handle(init, Operation("open the device", subject), bounds, owned_fds))
        if load:
            try:
                device.load()
            except BaseException:
                device.close()
                raise
        return device

    @classmethod
    def open(cls, path: str, *, bounds: KdfBounds = DEFAULT_BOUNDS) -> Device:
        """Open `path` and load its LUKS2 header (crypt_init, crypt_load).

        libcryptsetup repairs a damaged header copy by writing while it loads; `from_copy` never writes.
        """
        name = os.fsencode(path)
        return cls._initialised(lambda out: lib.crypt_init(out, name), path, bounds, load=True)

    @classmethod
    def blank(cls, path: str, *, data_path: str | None = None, bounds: KdfBounds = DEFAULT_BOUNDS) -> Device:
        """Open `path` without loading anything, to `format` or to restore a header; `data_path` detaches the data."""
        name, data = os.fsencode(path), ffi.NULL if data_path is None else os.fsencode(data_path)
        return cls._initialised(lambda out: lib.crypt_init_data_device(out, name, data), path, bounds, load=False)

    @classmethod
    def detached(cls, header_path: str, data_path: str, *, bounds: KdfBounds = DEFAULT_BOUNDS) -> Device:
        """Open `data_path` with the header in `header_path`, and load it (crypt_init_data_device)."""
        header, data = os.fsencode(header_path), os.fsencode(data_path)
        return cls._initialised(lambda out: lib.crypt_init_data_device(out, header, data), data_path, bounds, load=True)

    @classmethod
    def from_copy(cls, image: HeaderImage, data_path: str, *, bounds: KdfBounds = DEFAULT_BOUNDS) -> Device:
        """Open `data_path` with a checked copy of its header: no call writes to the header on the medium.

        Tests keys, gives the volume key and opens. What would change the header changes the copy, and is lost.
        """
        fd = image.to_memfd()
        header, data = f"/proc/self/fd/{fd}".encode(), os.fsencode(data_path)
        return cls._initialised(
            lambda out: lib.crypt_init_data_device(out, header, data), data_path, bounds, load=True, owned_fds=(fd,)
        )

    @classmethod
    def active(cls, name: str, *, bounds: KdfBounds = DEFAULT_BOUNDS) -> Device:
        """Open the device below the active /dev/mapper/`name`, as `open` does (crypt_init_by_name)."""
        handle = make_handle(
            lambda out: lib.crypt_init_by_name(out, name.encode()), Operation("look at the mapping", name), bounds
        )
        try:
            handle.set_kdf(CHEAP_DIGEST)
        except BaseException:
            handle.close()
            raise
        return cls._make(handle)

    # The milliseconds of a boot are counted: it pays for the parts that it uses, when it uses them.

    @property
    def header(self) -> Header:
        """Return what reads and changes the header as a whole."""
        from luksctl.cryptsetup.header import Header  # noqa: PLC0415

        return Header(self._handle)

    @property
    def keyslots(self) -> Keyslots:
        """Return what reads and changes the keyslots."""
        from luksctl.cryptsetup.keyslots import Keyslots  # noqa: PLC0415

        return Keyslots(self._handle)

    @property
    def mappings(self) -> Mappings:
        """Return what opens and closes."""
        from luksctl.cryptsetup.mappings import Mappings  # noqa: PLC0415

        return Mappings(self._handle)

    @property
    def tokens(self) -> Tokens:
        """Return what reads and writes the tokens."""
        from luksctl.cryptsetup.tokens import Tokens  # noqa: PLC0415

        return Tokens(self._handle)

    @property
    def reencryption(self) -> Reencryption:
        """Return what re-encrypts this device."""
        from luksctl.cryptsetup.reencryption import Reencryption  # noqa: PLC0415

        return Reencryption(self._handle)

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Device({self._handle.path!r}{', closed' if self._handle.closed else ''})"

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        self._handle.close()

    def load(self) -> None:
        """Read the header again, after `format` by another handle or when this one became stale (crypt_load)."""
        handle = self._handle
        handle.change(handle.operation("load the header"), lib.crypt_load, LUKS2, ffi.NULL)
        # Nothing may ever be benchmarked: a forgotten set_kdf would cost seconds, not be wrong.
        handle.set_kdf(CHEAP_DIGEST)

    def format(self, parameters: FormatParameters, volume_key: Secret | None = None) -> None:
        """Write a new header without keyslots and sync it; `volume_key` None makes a random one (crypt_format).

        Everything in the header area is lost. Cut: zeros, random bytes without a header, or one or two copies.
        """
        from luksctl.cryptsetup.formatting import format_device  # noqa: PLC0415  # as the parts above

        format_device(self._handle, parameters, volume_key)

    def test_key(self, key: Secret, *, slot: int | None = None) -> int:
        """Open `slot` (None: each in turn) with `key`, activating nothing; return the slot that opened.

        Raises SlotPassphraseRejected, or KdfOutOfBounds or KdfOutOfMemory before anything is tried.
        """
        handle = self._handle
        number = ANY_SLOT if slot is None else slot
        with handle.deriving(slot), chars_of(key) as chars:
            return handle.run(
                handle.unlocking("test the key", slot),
                lib.crypt_activate_by_passphrase,
                ffi.NULL,
                number,
                chars,
                len(key),
                0,
            )

    def volume_key(self, key: Secret, *, slot: int | None = None) -> Secret:
        """Return the volume key that `slot` (None: any) yields to `key`; costs one unlock (crypt_volume_key_get).

        Raises SlotPassphraseRejected, or KdfOutOfBounds or KdfOutOfMemory before anything is tried.
        """
        handle = self._handle
        number = ANY_SLOT if slot is None else slot
        # 0 or less where there is no such keyslot: then the call below says so.
        size_bytes = (
            lib.crypt_get_volume_key_size(handle.pointer)
            if slot is None
            else lib.crypt_keyslot_get_key_size(handle.pointer, slot)
        )
        volume_key = Secret(max(size_bytes, 1))
        size = ffi.new("size_t *")
        size[0] = len(volume_key)
        try:
            with handle.deriving(slot), chars_of(key) as chars, chars_of(volume_key) as target:
                handle.run(
                    handle.unlocking("get the volume key", slot),
                    lib.crypt_volume_key_get,
                    number,
                    target,
                    size,
                    chars,
                    len(key),
                )
        except BaseException:
            volume_key.close()
            raise
        return volume_key

    def verify_volume_key(self, volume_key: Secret) -> None:
        """Raise SlotPassphraseRejected unless `volume_key` is this volume's; only the digest is computed."""
        handle = self._handle
        handle.check_digests()
        with chars_of(volume_key) as chars:
            handle.run(handle.unlocking("verify the volume key"), lib.crypt_volume_key_verify, chars, len(volume_key))

    def wipe(
        self,
        pattern: WipePattern,
        *,
        offset_bytes: int,
        length_bytes: int,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Overwrite `length_bytes` from `offset_bytes` on the data device, both multiples of 512, and sync.

        An exception in `progress`, or Ctrl-C, stops it and is raised. Cut: part of it is overwritten (crypt_wipe).
        """
        from luksctl.cryptsetup.wiping import wipe_range  # noqa: PLC0415  # as the parts above

        wipe_range(self._handle, pattern, offset_bytes, length_bytes, progress)
