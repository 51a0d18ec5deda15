"""The one place where libcryptsetup's -errno becomes an error of ours."""

from __future__ import annotations

import errno
import os

from luksctl.errors import CryptsetupError, SlotPassphraseRejected
from luksctl.hints import Final
from luksctl.value import frozen


@frozen
class Operation:
    """What a call was for, in words, on which device or mapping, and on which keyslot.

    `unlocks` says that -EPERM means a wrong key.
    """

    name: str
    subject: str
    slot: int | None = None
    unlocks: bool = False


@frozen
class Log:
    """What libcryptsetup logged during a call, and the first line of it that is an error."""

    lines: tuple[str, ...] = ()
    first_error: str | None = None


NO_LOG: Final = Log()

# errno → what it means when libcryptsetup logged nothing itself, and what to do about it.
_MEANINGS: Final[dict[int, tuple[str, str | None]]] = {
    errno.EPERM: ("the key does not open it", None),
    errno.ENOENT: ("there is no such keyslot, token or key", "luksctl status"),
    errno.EINVAL: ("libcryptsetup refused the header or the arguments", None),
    errno.EEXIST: ("the mapping exists already", None),
    errno.EBUSY: ("the device or the header is in use", "look for open mappings and mounts: lsblk"),
    errno.ENODEV: ("there is no such active mapping", "luksctl status"),
    errno.ENOTSUP: ("the kernel or this libcryptsetup does not support it", None),
    errno.ENOSPC: ("the header's metadata area is full", "remove tokens or keyslots that nobody uses"),
    errno.ENOTBLK: ("not a block device, and no loop device could be attached", None),
    errno.EIO: ("the device could not be read or written", "dmesg"),
    errno.EACCES: ("permission denied", "run it as root"),
}


def check(rc: int, operation: Operation, log: Log = NO_LOG) -> int:
    """Return `rc` unless it is negative; raise the error that it stands for, with the library's own log lines."""
    if rc >= 0:
        return rc
    number = -rc
    # Where any keyslot would do, the library gives the answer of the last one that it looked at, which may be that this
    # one holds no key of the data: so it is while a volume is re-encrypted.
    rejected = operation.unlocks and (number == errno.EPERM or (number == errno.ENOENT and operation.slot is None))
    default, hint = _MEANINGS.get(errno.EPERM if rejected else number, (os.strerror(number), None))
    cause = default if log.first_error is None else log.first_error.rstrip(".")
    kind = SlotPassphraseRejected if rejected else CryptsetupError
    raise kind(
        f"{cause} ({errno.errorcode.get(number, number)})",
        errno=number,
        log=log.lines,
        volume=operation.subject,
        slot=operation.slot,
        operation=operation.name,
        hint=hint,
    )
