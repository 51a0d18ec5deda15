"""Backups of LUKS2 headers: made by hand, or kept in STATE while keyslots are removed; always encrypted there.

A backup undoes a rotation: whoever has it and a key that was rotated out opens the volume. So those that were kept are
dropped as soon as a sync ended with everything in place.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from luksctl.cryptsetup.ondisk import read_copies
from luksctl.errors import DeviceError, LuksctlError, Refused
from luksctl.hints import TYPE_CHECKING, Final, assert_never
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.header import LuksHeader
from luksctl.model.intent import (
    DecryptIntent,
    FormatIntent,
    InPlaceIntent,
    Intent,
    ReencryptIntent,
    ReencryptKind,
    ResetIntent,
)
from luksctl.model.observed import Ambiguous, Missing
from luksctl.model.probe import Device
from luksctl.node.files import create_file, read_file, sync_directory
from luksctl.node.node import Node
from luksctl.node.report import read_report
from luksctl.node.sources import HEADER_BACKUPS, state_directory
from luksctl.providers.recipient import read_recipient
from luksctl.providers.sealed_header import HeaderPlace, SealedHeader, read_sealed_header, seal_header
from luksctl.reconcile.books import unverified
from luksctl.value import frozen

if TYPE_CHECKING:
    from luksctl.providers.recipient import Recipient

_MANAGED: Final = (STATE, EPHEMERAL)


@frozen
class Saved:
    """A header as it was read: the content of a backup file, and what it says."""

    place: HeaderPlace
    content: bytes
    reencrypting: bool = False


@frozen
class KeptBackup:
    """A backup in STATE; `problem` says why the file cannot be read, and then `document` is None."""

    path: str
    document: SealedHeader | None
    problem: str | None = None

    @property
    def volume(self) -> str:
        """Return the volume that it is of, by its file's name."""
        return os.path.basename(self.path).partition("-")[0]


def save_header(node: Node, volume: str) -> Saved:
    """Read the header of `volume` and its key areas under our lock of the volume. Writes nothing.

    DeviceError where no copy is valid. Refused while the header is on its way to be another one, or none: put back
    later, it would lie over data of another key, over a filesystem, or open what was erased.
    """
    with node.ports.disks.volume_lock(volume):
        _expect_to_last(volume, node.ports.meta.load().record.intent(volume))
        device = find_device(node, volume)
        saved = _saved(node, volume, device)
        if saved.reencrypting:
            raise _refused(volume, "somebody else re-encrypts it")
        return saved


def _expect_to_last(volume: str, intent: Intent | None) -> None:
    """Raise Refused where META announces what leaves nothing that a header of now belongs to."""
    match intent:
        case ResetIntent():
            hint = f"luksctl retry {volume} --drop-intent takes the reset back"
            raise Refused("its reset is announced, and a backup would undo it", volume=volume, hint=hint)
        case DecryptIntent() | ReencryptIntent(kind=ReencryptKind.DECRYPT):
            raise _refused(volume, "it is being decrypted in place")
        case InPlaceIntent() | ReencryptIntent(kind=ReencryptKind.ENCRYPT):
            raise _refused(volume, "it is being encrypted in place")
        case ReencryptIntent():
            raise _refused(volume, "it is being re-encrypted")
        case FormatIntent() | None:
            pass  # what an unfinished format has is marked, and restoring it asks
        case _:
            assert_never(intent)


def _refused(volume: str, why: str) -> Refused:
    cause = f"{why}, and a header saved now would destroy data when it is put back"
    return Refused(cause, volume=volume, hint="luksctl status shows how far it is")


def find_device(node: Node, volume: str) -> Device:
    """Return the device of `volume`; DeviceError or Refused where there is not one."""
    found = node.ports.disks.find(volume, node.settings.volume(volume), timeout_s=0)
    match found:
        case Missing(sought):
            raise DeviceError(f"there is no device ({sought})", volume=volume)
        case Ambiguous(candidates, reason):
            raise Refused(f"{reason}: {', '.join(candidates)}", volume=volume)
        case Device():
            return found


def counter_of(header: LuksHeader) -> int | None:
    """Return the counter of the bookkeeping, not verified: no volume key is at hand."""
    books = unverified(header)
    return None if books is None else books.counter


def configured_recipient(node: Node) -> str | None:
    """Return the public key that the policy of the config that rules names, or None."""
    from luksctl.node.config_view import config_view  # noqa: PLC0415  # the view is about far more than this

    ruling = config_view(node).ruling
    return None if ruling is None else ruling.policy.header_recipient


def sealed(saved: Saved, recipient: Recipient) -> bytes:
    """Return the document in which only the recipient can read the backup."""
    document = seal_header(saved.content, saved.place, recipient, datetime.now(UTC))
    return json.dumps(document, indent=2).encode() + b"\n"


def write_new(path: str, content: bytes) -> None:
    """Make the file at `path`, mode 0600; Refused where it is there already. Cut: no file, or the whole one."""
    if not create_file(path, content):
        raise Refused(f"{path} is there already; nothing was written", hint="name another file")


# ---- kept in STATE --------------------------------------------------------------------------------------------------


def keep_before_removal(node: Node, device: Device) -> None:
    """Keep a backup in STATE before a keyslot of `device` is removed, if the config that rules names a recipient.

    One that is there already is from before the first removal of a change that did not end yet, so it stays the only
    one. What cannot be kept is told, and stops nothing: docs/decisions/0014-a-backup-that-fails-stops-no-sync.md.
    """
    try:
        _keep_if_wanted(node, device)
    except (LuksctlError, OSError, ImportError) as error:  # without `cryptography` nothing can be encrypted
        cause = error.cause if isinstance(error, LuksctlError) else str(error)
        node.tell(f"{device.path}: no backup of its header was kept before a keyslot is removed: {cause}")


def drop_proven(node: Node) -> tuple[str, ...]:
    """Drop the kept backups of every volume whose keyslots were in sync when it was last reported; return their paths.

    A file that cannot be removed is told, and tried again the next time.
    """
    dropped: list[str] = []
    try:
        for volume in sorted({kept.volume for kept in kept_backups(node)}):
            report = read_report(node, volume)
            if report is not None and report.in_sync:
                dropped += drop_backups(node, volume)
    except OSError as error:
        node.tell(f"a header backup could not be dropped: {error.filename}: {error.strerror}")
    return tuple(dropped)


def _is_at(node: Node, volume: str, device: Device) -> bool:
    found = node.ports.disks.find(volume, node.settings.volume(volume), timeout_s=0)
    return isinstance(found, Device) and found.path == device.path


def kept_backups(node: Node) -> tuple[KeptBackup, ...]:
    """Return the backups in STATE, oldest first for each volume; none where STATE is not mounted."""
    directory = _directory(node)
    if directory is None or not os.path.isdir(directory):
        return ()
    names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    return tuple(_read(os.path.join(directory, name)) for name in names)


def drop_backups(node: Node, volume: str) -> tuple[str, ...]:
    """Remove the kept backups of `volume`, and return their paths. Cut: some are left, and dropped next time."""
    found = tuple(kept.path for kept in kept_backups(node) if kept.volume == volume)
    for path in found:
        os.unlink(path)
    if found:
        directory = os.path.dirname(found[0])
        sync_directory(directory)
        if not os.listdir(directory):
            os.rmdir(directory)
    return found


def _keep_if_wanted(node: Node, device: Device) -> None:
    recipient = configured_recipient(node)
    volume = next((name for name in _MANAGED if _is_at(node, name, device)), None)
    if recipient is None or volume is None:
        return
    path = _keep(node, volume, device, recipient)
    if path is not None:
        node.tell(f"{volume}: a backup of its header is kept in {path}")


def _keep(node: Node, volume: str, device: Device, recipient: str) -> str | None:
    """Write the backup, and return its path; None where one of this header is there already."""
    directory = _directory(node)
    if directory is None:
        raise DeviceError("STATE is not mounted")
    saved = _saved(node, volume, device)
    content = sealed(saved, read_recipient(recipient.encode()))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    os.chmod(directory, 0o700)
    sync_directory(os.path.dirname(directory))
    path = os.path.join(directory, f"{volume}-{saved.place.header_uuid}.json")
    return path if create_file(path, content) else None


def _directory(node: Node) -> str | None:
    state = state_directory(node)
    return None if state is None else os.path.join(state, HEADER_BACKUPS)


def _read(path: str) -> KeptBackup:
    try:
        return KeptBackup(path, read_sealed_header(read_file(path) or b""))
    except LuksctlError as error:
        return KeptBackup(path, None, error.cause)
    except OSError as error:
        return KeptBackup(path, None, error.strerror)


def _saved(node: Node, volume: str, device: Device) -> Saved:
    content = node.ports.headers.save_header(device)
    header = read_copies(lambda offset, length: content[offset : offset + length], len(content)).best
    if header is None:
        raise DeviceError(f"the header of {device.path} cannot be read", volume=volume)
    slots = tuple(slot.number for slot in header.keyslots)
    place = HeaderPlace(os.uname().nodename, volume, header.uuid, header.seqid, counter_of(header), slots)
    return Saved(place, content, header.reencrypting)
