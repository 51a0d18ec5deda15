"""Re-encryption: starting, running, resuming and recovering it, and where it stands."""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import IntEnum, IntFlag, StrEnum

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.callbacks import Progress, ProgressCallback
from luksctl.cryptsetup.handle import ANY_SLOT, Handle
from luksctl.cryptsetup.kdf import CHEAP_DIGEST
from luksctl.cryptsetup.passing import chars_of
from luksctl.errors import CryptsetupError, NeedsReboot
from luksctl.hints import TYPE_CHECKING, Final, final
from luksctl.model.in_place import SHIFT_BYTES
from luksctl.model.intent import ReencryptIntent, ReencryptKind
from luksctl.secret import Secret
from luksctl.units import format_size
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import Chars, Null

_SECTOR_BYTES: Final = 512


class ReencryptMode(IntEnum):
    """What becomes what (crypt_reencrypt_mode_info)."""

    REENCRYPT = lib.CRYPT_REENCRYPT_REENCRYPT
    ENCRYPT = lib.CRYPT_REENCRYPT_ENCRYPT
    DECRYPT = lib.CRYPT_REENCRYPT_DECRYPT


class Direction(IntEnum):
    """From which end of the device."""

    FORWARD = lib.CRYPT_REENCRYPT_FORWARD
    BACKWARD = lib.CRYPT_REENCRYPT_BACKWARD


class Resilience(StrEnum):
    """What makes a torn hot zone recoverable; with NONE nothing does."""

    NONE = "none"
    CHECKSUM = "checksum"
    JOURNAL = "journal"
    DATASHIFT = "datashift"
    DATASHIFT_CHECKSUM = "datashift-checksum"
    DATASHIFT_JOURNAL = "datashift-journal"


class ReencryptFlag(IntFlag):
    """How `Reencryption.start` begins; `resume` and `recover` set their own."""

    INITIALIZE_ONLY = lib.CRYPT_REENCRYPT_INITIALIZE_ONLY
    MOVE_FIRST_SEGMENT = lib.CRYPT_REENCRYPT_MOVE_FIRST_SEGMENT
    RESUME_ONLY = lib.CRYPT_REENCRYPT_RESUME_ONLY
    RECOVERY = lib.CRYPT_REENCRYPT_RECOVERY


class ReencryptStatus(IntEnum):
    """Where a header stands (crypt_reencrypt_info); CRASH needs `recover` before anything else."""

    NONE = lib.CRYPT_REENCRYPT_NONE
    CLEAN = lib.CRYPT_REENCRYPT_CLEAN
    CRASH = lib.CRYPT_REENCRYPT_CRASH
    INVALID = lib.CRYPT_REENCRYPT_INVALID


AT_ONCE: Final = ReencryptFlag(0)


@frozen
class ReencryptParameters:
    """How to re-encrypt; sizes are multiples of 512, and 0 leaves them to libcryptsetup.

    `max_hotzone_bytes` is how much is in flight between two progress calls. `device_size_bytes` limits it to the head
    of the device. `cipher` (empty for DECRYPT) and `sector_size_bytes` are the new ones.
    """

    cipher: str
    sector_size_bytes: int = 512
    mode: ReencryptMode = ReencryptMode.REENCRYPT
    direction: Direction = Direction.FORWARD
    resilience: Resilience = Resilience.CHECKSUM
    checksum_hash: str = "sha256"
    data_shift_bytes: int = 0
    max_hotzone_bytes: int = 0
    device_size_bytes: int = 0


@frozen
class ReencryptState:
    """Where a re-encryption stands; all but `status` mean something only while one is under way."""

    status: ReencryptStatus
    mode: ReencryptMode
    direction: Direction
    resilience: str
    checksum_hash: str
    data_shift_bytes: int
    max_hotzone_bytes: int


@final
class Reencryption:
    """Re-encrypt one device; made by `Device.reencryption`. All raise CryptsetupError.

    While one is under way the volume opens by passphrase only; keyslots can be destroyed, and nothing else of the
    header can be written.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def start(
        self,
        parameters: ReencryptParameters,
        key: Secret,
        *,
        old_slot: int | None,
        new_slot: int | None,
        active_name: str | None = None,
        flags: ReencryptFlag = AT_ONCE,
    ) -> None:
        """Write the plan into the header: the volume key of `new_slot` replaces that of `old_slot`; `key` opens both.

        `new_slot` is an unbound keyslot that holds the new volume key. `active_name` does it under an active mapping.
        Raises SlotPassphraseRejected. Cut: started or not (crypt_reencrypt_init_by_passphrase).
        """
        self._initialise(parameters, key, (old_slot, new_slot), active_name, flags)

    def resume(self, parameters: ReencryptParameters, key: Secret, *, active_name: str | None = None) -> None:
        """Make a re-encryption that is under way ready to `run` again; CRASH needs `recover` first."""
        self._initialise(parameters, key, (None, None), active_name, ReencryptFlag.RESUME_ONLY)

    def recover(self, parameters: ReencryptParameters, key: Secret, *, active_name: str | None = None) -> None:
        """Finish or take back the hot zone that a crash left half written."""
        self._initialise(parameters, key, (None, None), active_name, ReencryptFlag.RECOVERY)

    def run(self, progress: ProgressCallback | None = None) -> str | None:
        """Re-encrypt to the end; an exception in `progress`, or Ctrl-C, stops it between two hot zones and is raised.

        What was started or resumed by this handle is run. Return the error that the library only logged: that what it
        leaves behind could not be overwritten fails no run. Cut: CRASH, and recoverable unless the resilience is NONE
        (crypt_reencrypt_run).
        """
        handle = self._handle
        with handle.progress_to(progress) as userdata:
            operation = handle.operation("re-encrypt")
            handle.change(operation, lib.crypt_reencrypt_run, lib.luksctl_on_progress, userdata)
            return handle.logged_error

    def state(self) -> ReencryptState:
        """Return where the loaded header stands."""
        found = ffi.new("struct crypt_params_reencrypt *")
        status = ReencryptStatus(lib.crypt_reencrypt_status(self._handle.pointer, found))
        return ReencryptState(
            status,
            ReencryptMode(found.mode),
            Direction(found.direction),
            _text(found.resilience),
            _text(found.hash),
            found.data_shift * _SECTOR_BYTES,
            found.max_hotzone_size * _SECTOR_BYTES,
        )

    def _initialise(
        self,
        parameters: ReencryptParameters,
        key: Secret,
        slots: tuple[int | None, int | None],
        active_name: str | None,
        flags: ReencryptFlag,
    ) -> None:
        handle = self._handle
        handle.check_bounds(None)
        handle.set_kdf(CHEAP_DIGEST)
        # The cipher of what is under way stands in the header; naming one again is refused.
        named = parameters.cipher and not flags & (ReencryptFlag.RESUME_ONLY | ReencryptFlag.RECOVERY)
        cipher, _, mode = parameters.cipher.partition("-")
        resilience = ffi.new("char[]", parameters.resilience.encode())
        checksum_hash = ffi.new("char[]", parameters.checksum_hash.encode())
        luks2 = ffi.new("struct crypt_params_luks2 *", {"sector_size": parameters.sector_size_bytes})
        reencrypt = ffi.new(
            "struct crypt_params_reencrypt *",
            {
                "mode": parameters.mode,
                "direction": parameters.direction,
                "resilience": resilience,
                "hash": checksum_hash,
                "data_shift": parameters.data_shift_bytes // _SECTOR_BYTES,
                "max_hotzone_size": parameters.max_hotzone_bytes // _SECTOR_BYTES,
                "device_size": parameters.device_size_bytes // _SECTOR_BYTES,
                "luks2": luks2,
                "flags": flags,
            },
        )
        old, new = (ANY_SLOT if slot is None else slot for slot in slots)
        with chars_of(key) as chars:
            handle.change(
                handle.unlocking("prepare the re-encryption", slots[0]),
                lib.crypt_reencrypt_init_by_passphrase,
                ffi.NULL if active_name is None else active_name.encode(),
                chars,
                len(key),
                old,
                new,
                cipher.encode() if named else ffi.NULL,
                mode.encode() if named else ffi.NULL,
                reencrypt,
            )


def parameters_of(how: ReencryptIntent) -> ReencryptParameters:
    """Return how the announced re-encryption is done; one in place moves its data by as much as the header takes."""
    match how.kind:
        case ReencryptKind.RENEW:
            resilience, mode, direction = Resilience(how.resilience.value), ReencryptMode.REENCRYPT, Direction.FORWARD
        case ReencryptKind.ENCRYPT:
            resilience, mode, direction = Resilience.DATASHIFT, ReencryptMode.ENCRYPT, Direction.BACKWARD
        case ReencryptKind.DECRYPT:
            # Its first part is decrypted on the spot; a journal for that would be larger than the area that there is.
            resilience, mode, direction = Resilience.DATASHIFT_CHECKSUM, ReencryptMode.DECRYPT, Direction.FORWARD
    return ReencryptParameters(
        cipher=how.cipher,
        sector_size_bytes=how.sector_size_bytes,
        mode=mode,
        direction=direction,
        resilience=resilience,
        data_shift_bytes=0 if how.kind is ReencryptKind.RENEW else SHIFT_BYTES,
        max_hotzone_bytes=how.hotzone_bytes,
    )


def go_on(
    reencryption: Reencryption,
    how: ReencryptIntent,
    key: Secret,
    mapped_name: str | None,
    progress: Callable[[int, int], None],
) -> None:
    """Mend a torn hot zone, and re-encrypt to the end; what `progress` raises stops it between two hot zones.

    NeedsReboot where a hot zone is torn below an open mapping: whoever wrote it was killed, and the kernel holds back
    all that goes there, which only opening anew can end. Cut: a torn hot zone.
    """
    parameters = parameters_of(how)
    if reencryption.state().status is ReencryptStatus.CRASH:
        if mapped_name is not None:
            cause = f"the re-encryption was killed in the middle of a hot zone while {mapped_name} was open"
            raise NeedsReboot(cause, hint="reboot: the boot mends the hot zone before it opens the volume")
        reencryption.recover(parameters, key)
        if reencryption.state().status is ReencryptStatus.NONE:
            return  # it was the last hot zone
    reencryption.resume(parameters, key, active_name=mapped_name)

    def tell(done: Progress) -> None:
        progress(done.done_bytes, done.total_bytes)

    logged = reencryption.run(tell)
    # A run that was cancelled is a success to the library.
    status = reencryption.state().status
    if status is not ReencryptStatus.NONE:
        cause = f"the re-encryption ended before it was done ({status.name.lower()})"
        raise CryptsetupError(cause, errno=errno.ECANCELED, operation="re-encrypt")
    if logged is not None and how.kind is ReencryptKind.ENCRYPT:
        cause = f"all is encrypted, but the copy of the head at the end of the device was not overwritten: {logged}"
        hint = f"the last {format_size(SHIFT_BYTES)} of the device may show the beginning of the filesystem as it was"
        raise CryptsetupError(cause, errno=errno.EIO, operation="re-encrypt", hint=hint)


def _text(chars: Chars | Null) -> str:
    return ffi.string(chars).decode(errors="replace") if chars else ""
