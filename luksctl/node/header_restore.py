"""Put a saved header back on a volume, after everything that speaks against it was said or allowed by name."""

from __future__ import annotations

import json
from collections.abc import Iterator

from luksctl.cryptsetup.header_bytes import read_backup
from luksctl.cryptsetup.header_image import HeaderImage
from luksctl.cryptsetup.slot_digest import slot_digests
from luksctl.errors import NotBlank, Refused
from luksctl.model.config import MAX_SLOT
from luksctl.model.header import Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import DecryptIntent, InPlaceIntent, ReencryptIntent, ResetIntent
from luksctl.model.probe import Device
from luksctl.node.header_backup import counter_of, find_device
from luksctl.node.node import Node
from luksctl.reconcile.converge import reencryption_running
from luksctl.value import frozen

_LUKS: frozenset[str] = frozenset({"crypto_LUKS"})
_ALL_SLOTS = tuple(range(MAX_SLOT + 1))


@frozen
class Allowed:
    """What the operator allowed by name."""

    while_open: bool = False
    older: bool = False
    unfinished: bool = False
    reencryption: bool = False


@frozen
class Restoring:
    """What a restore would do. `present` is None where nothing on the device can be read.

    `back` are keyslots that come back, `gone` those that vanish, `changed` those that get the key they had. `same`
    stay as they are.
    """

    volume: str
    device: Device
    copies: HeaderCopies
    backup: LuksHeader
    back: tuple[int, ...]
    gone: tuple[int, ...]
    changed: tuple[int, ...]
    same: tuple[int, ...]

    @property
    def present(self) -> LuksHeader | None:
        """Return the header that is on the device."""
        return self.copies.best


def look_at(node: Node, volume: str, content: bytes, allowed: Allowed) -> Restoring:
    """Say what restoring the backup file `content` would do; reads only.

    Refused for what may never be done, and for what is not `allowed`.
    """
    backup = read_backup(content)
    device = find_device(node, volume)
    copies = node.ports.disks.header_copies(device)
    _expect_ours(node, volume, device, copies)
    for why, permitted, option in _doubts(node, volume, device, backup.header, copies.best):
        if not permitted(allowed):
            raise Refused(f"{why}; nothing was written", volume=volume, hint=f"{option} if that is meant")
    return _compared(node, volume, device, backup, copies)


def restore(node: Node, seen: Restoring, content: bytes, allowed: Allowed) -> None:
    """Write the header back under our lock of the volume; Refused where anything is not as it was `seen`.

    Cut: the header before or the saved one, whole; where nothing could be read before, perhaps nothing yet: restore
    again.
    """
    with node.ports.disks.volume_lock(seen.volume):
        if look_at(node, seen.volume, content, allowed) != seen:
            hint = f"luksctl header restore {seen.volume}"
            raise Refused("it was changed meanwhile; nothing was written", volume=seen.volume, hint=hint)
        node.ports.headers.restore_header(seen.device, content, seen.copies)


# ---- what speaks against it -----------------------------------------------------------------------------------------


def _expect_ours(node: Node, volume: str, device: Device, copies: HeaderCopies) -> None:
    """Raise Refused where the device is not the volume's, is held by somebody else, or holds something else."""
    recorded = node.ports.meta.load().record.partition(volume)
    if recorded is not None and recorded != device.identity:
        raise Refused(f"META records partition {recorded}, but {device.path} is {device.identity}", volume=volume)
    mapping = node.ports.disks.mapping(f"luks2-{volume}")
    if mapping is not None and mapping.backing != device.path:
        raise Refused(f"/dev/mapper/{mapping.name} is open on another device, {mapping.backing}", volume=volume)
    holder = node.ports.disks.in_use(device) if mapping is None else None
    if holder is not None:
        raise Refused(f"the device is in use by {holder}", volume=volume)
    if copies.best is not None:
        return
    if copies.state is Copies.LUKS1:
        raise NotBlank("there is a LUKS1 volume", volume=volume)
    signature = node.ports.disks.signature(device.path)
    if signature is not None and signature.type not in _LUKS:
        what = signature.type or "several signatures that contradict each other"
        raise NotBlank(f"there is something else on {device.path}: {what}", volume=volume)


@frozen
class _Permits:
    """Which field of Allowed permits it."""

    field: str

    def __call__(self, allowed: Allowed) -> bool:
        return bool(getattr(allowed, self.field))


def _doubts(
    node: Node, volume: str, device: Device, backup: LuksHeader, present: LuksHeader | None
) -> Iterator[tuple[str, _Permits, str]]:
    """Yield what has to be allowed: why, by what, and the option that does."""
    if present is not None and present.uuid != backup.uuid:
        cause = f"the backup is of header {backup.uuid}, and {present.uuid} is on {device.path}"
        raise Refused(f"{cause}; nothing was written", volume=volume)
    if node.ports.disks.mapping(f"luks2-{volume}") is not None:
        yield "the volume is open", _Permits("while_open"), "--while-open"
    intent = node.ports.meta.load().record.intent(volume)
    if isinstance(intent, ResetIntent):
        hint = f"luksctl retry {volume} --drop-intent takes the reset back"
        raise Refused("its reset is announced, so nothing is restored; nothing was written", volume=volume, hint=hint)
    if isinstance(intent, InPlaceIntent | DecryptIntent):
        hint = f"luksctl boot {volume} goes on with it"
        raise Refused("it is being encrypted or decrypted in place; nothing was written", volume=volume, hint=hint)
    if isinstance(intent, ReencryptIntent):
        raise reencryption_running(volume)
    if intent is not None or backup.unfinished_mark or (present is not None and present.unfinished_mark):
        where = "the backup" if backup.unfinished_mark else "the volume"
        yield f"the first format of {where} was not finished", _Permits("unfinished"), "--unfinished"
    reencryption = _reencryption(backup, present)
    if reencryption is not None:
        yield reencryption, _Permits("reencryption"), "--reencryption"
    older = None if present is None else _older(backup, present)
    if older is not None:
        yield older, _Permits("older"), "--older"


def _reencryption(backup: LuksHeader, present: LuksHeader | None) -> str | None:
    if backup.reencrypting:
        return "a re-encryption is under way in the backup"
    if present is None:
        return None
    if present.reencrypting:
        return "a re-encryption is under way on the device"
    if _volume_key_digests(backup) != _volume_key_digests(present):
        return "the backup is of another volume key, so the data would be lost"
    return None


def _volume_key_digests(header: LuksHeader) -> list[object]:
    """Return salt and digest of each volume key that a segment is encrypted with: they change with the key only."""
    digests = json.loads(header.json)["digests"].values()
    found = [[digest.get("salt"), digest.get("digest")] for digest in digests if digest.get("segments")]
    return sorted(found, key=repr)


def _older(backup: LuksHeader, present: LuksHeader) -> str | None:
    saved, found = counter_of(backup), counter_of(present)
    if found is None or (saved is not None and saved >= found):
        return None
    is_at = "has no bookkeeping" if saved is None else f"is at change {saved}"
    return f"the backup {is_at}, and the keyslots on the device are at change {found}: it undoes what was changed since"


def _compared(node: Node, volume: str, device: Device, backup: HeaderImage, copies: HeaderCopies) -> Restoring:
    saved = slot_digests(backup, _ALL_SLOTS)
    found = {} if copies.best is None else node.ports.headers.slot_digests(device, _ALL_SLOTS)
    common = sorted(saved.keys() & found.keys())
    return Restoring(
        volume,
        device,
        copies,
        backup.header,
        back=tuple(sorted(saved.keys() - found.keys())),
        gone=tuple(sorted(found.keys() - saved.keys())),
        changed=tuple(slot for slot in common if saved[slot] != found[slot]),
        same=tuple(slot for slot in common if saved[slot] == found[slot]),
    )
