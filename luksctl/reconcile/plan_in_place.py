"""Decide how a plain volume becomes an encrypted one in place, up to where re-encryption takes over. Pure.

    to encrypt: checked ─▶ keys made ─▶ header made in memory, each key proven ─▶ announced ─▶ room made ─▶ head copied
    to the end ─▶ META says where ─▶ header placed ─▶ a key proven from the medium ─▶ META hands over

Until then the volume is the filesystem that it was, and may not be mounted. A header of which not both copies are whole
is none: the head is taken back, and everything begins anew.

    to decrypt: a key proven ─▶ announced ─▶ header saved to a file on another volume ─▶ begun in the file, the first of
    the data copied over the header on the device, and compared ─▶ META hands over

Until then the data is where it was, under the header in the file or on the device.
"""

from __future__ import annotations

from luksctl.errors import AttemptsExhausted, MetaError, NeedsReboot, Refused
from luksctl.hints import Final, assert_never
from luksctl.model.announced_step import (
    AnnounceDecryption,
    AnnounceInPlace,
    BeginDecryption,
    BuildHeader,
    CheckInPlace,
    ConcludeDecryption,
    ConcludeDetachment,
    ConcludePlacement,
    DetachHeader,
    MakeRoom,
    MoveHead,
    PlaceHeader,
    RestoreFilesystem,
    RestoreHead,
)
from luksctl.model.config import STATE, FormatRequires, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import Copies, HeaderCopies
from luksctl.model.in_place import MEASURED, SHIFT_BYTES, SMALLEST_BYTES
from luksctl.model.intent import MAX_ATTEMPTS, DecryptIntent, InPlaceIntent, InPlacePhase
from luksctl.model.json_budget import budget_of_format
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Decrypting, Encrypting, FilesystemFound, Luks2
from luksctl.model.probe import Device
from luksctl.model.step import (
    AddKeyslot,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    RecordKeyslots,
    RepairHeader,
    Step,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.reconcile.plan_reencrypt import all_plain
from luksctl.reconcile.plan_sync import KINDS_WITH_TOKEN, bookkeeping_token
from luksctl.units import MIB, format_size
from luksctl.value import replace

# What the library asks of a device with such a header is more than its head.
_SCRATCH_BYTES: Final = SHIFT_BYTES + 1 * MIB
# The filesystem was made for sectors of the device, and dm-crypt's must not be larger.
_SECTOR_BYTES: Final = 512


def first_steps(
    desired: DesiredVolume, found: FilesystemFound, meta: MetaFacts, fresh_uuid: str, scratch_dir: str
) -> tuple[Step, ...]:
    """Return the steps that encrypt a plain filesystem whose config says that it is encrypted in place."""
    _expect_meta(meta, found.device)
    kind = found.signature.type
    if kind not in MEASURED:
        raise Refused(f"{found.device.path} holds {kind}, which cannot be encrypted in place", hint=recipe(desired))
    intent = InPlaceIntent(desired.volume, found.device.identity, fresh_uuid)
    return _begin(desired, found.device, intent, scratch_dir)


def steps_while_decrypting(desired: DesiredVolume, found: Luks2) -> tuple[Step, ...]:
    """Return what a boot does about a volume of which part is decrypted: it is opened; once all is, it is plain."""
    volume, device = desired.volume, found.device
    if all_plain(found.header):
        # As long as it is open, the kernel shows the data by what is in its memory.
        return (ConcludeDecryption(volume, device),) if found.mapping is None else ()
    if found.mapping is not None:
        return ()
    if not desired.fallback:
        raise Refused(
            f"{device.path} is half decrypted, and no config of before has a key for it",
            hint=f"add its keys to the config again, then: luksctl boot {volume}",
        )
    return (OpenVolume(volume, device, desired.mapped_name, desired.fallback[0], desired.fallback[1:]),)


def steps_in_place(
    desired: DesiredVolume, found: Encrypting | Decrypting, meta: MetaFacts, scratch_dir: str
) -> tuple[Step, ...]:
    """Return the steps that are left until re-encryption takes over; raises what stands in their way."""
    _expect_meta(meta, found.device)
    if found.holder is not None:
        raise NeedsReboot(
            f"{found.device.path} is in use by {found.holder}",
            hint="reboot: the boot goes on before anything is opened or mounted",
        )
    if isinstance(found, Encrypting):
        return _encryption(desired, found, scratch_dir)
    return _decryption(desired, found)


def _encryption(desired: DesiredVolume, found: Encrypting, scratch_dir: str) -> tuple[Step, ...]:
    intent, device = found.intent, found.device
    placed = found.placed
    if placed is not None:
        encryption = _expect_wanted(desired, intent)
        prove = ProveAnyKey(intent.volume, device, encryption, desired.fallback)
        return (prove, ConcludePlacement(intent.volume, device, placed.uuid))
    back: tuple[Step, ...] = ()
    match intent.phase:
        case InPlacePhase.SHRINKING:
            if intent.moved is not None and device.image:
                # resize2fs cuts an image file off behind the filesystem.
                device = replace(device, size_bytes=intent.moved.offset_bytes + intent.moved.size_bytes)
            back = (RestoreFilesystem(intent.volume, device, intent),)
        case InPlacePhase.PLACING:
            back = (RestoreHead(intent.volume, device, intent),)
        case InPlacePhase.PREPARING:
            pass
        case _:
            assert_never(intent.phase)
    intent = intent.taken_back
    try:
        return (*back, *_begin(desired, device, intent, scratch_dir))
    except Refused:
        if not back:
            raise
        return back


def steps_to_decrypt(desired: DesiredVolume, found: Luks2, meta: MetaFacts) -> tuple[Step, ...]:
    """Return the steps that begin to decrypt a volume whose config says that it is plain, and decrypted in place."""
    device = found.device
    if found.header.reencrypting or found.header.requirements:
        raise Refused(f"{device.path} is being re-encrypted, so it is not decrypted now", hint="luksctl status")
    if not desired.detached:
        raise Refused(
            f"{device.path} is decrypted in place only where its header can be kept meanwhile: STATE is not mounted",
            hint="luksctl status",
        )
    intent = DecryptIntent(desired.volume, device.identity, found.header.uuid, desired.detached)
    detached = replace(device, header=desired.detached)
    holder = None if found.mapping is None else f"{found.mapping.path}, which is open"
    none = HeaderCopies(Copies.NONE)
    return steps_in_place(desired, Decrypting(detached, intent, found.copies, none, holder), meta, "")


def _decryption(desired: DesiredVolume, found: Decrypting) -> tuple[Step, ...]:
    intent, device, volume = found.intent, found.device, found.intent.volume
    lists = desired.fallback if desired.encryption is None else (desired.encryption, *desired.fallback)
    if not lists:
        raise Refused(
            f"{device.path} is to be decrypted in place, and no config of before has a key for it",
            hint=f"luksctl retry {volume} --drop-intent, then add its keys to the config again",
        )
    if intent.attempt >= MAX_ATTEMPTS:
        because = f" ({intent.last_error})" if intent.last_error else ""
        raise AttemptsExhausted(
            f"beginning to decrypt it in place failed {intent.attempt} times{because}; its data is whole",
            hint=f"mend the cause, then: luksctl retry {volume}",
        )
    announce = AnnounceDecryption(volume, replace(intent, attempt=intent.attempt + 1, begun=True))
    begin = (BeginDecryption(volume, device, lists[0]), ConcludeDetachment(volume, device, intent.header_uuid))
    if found.saved:
        prove = ProveAnyKey(volume, device, lists[0], lists[1:])
        return (prove, *_repair(volume, device, found.detached, intent.header_uuid), announce, *begin)
    present = found.copies.best
    if present is None or present.uuid != intent.header_uuid:
        raise Refused(
            f"header {intent.header_uuid} is neither on {device.path} nor in {intent.header}",
            hint=f"bring {intent.header} back, from wherever it went; nothing was written",
        )
    whole = replace(device, header="")
    prove = ProveAnyKey(volume, whole, lists[0], lists[1:])
    repair = _repair(volume, whole, found.copies, present.uuid)
    return (prove, *repair, announce, DetachHeader(volume, device), *begin)


def _repair(volume: str, device: Device, copies: HeaderCopies, header_uuid: str) -> tuple[Step, ...]:
    """Return what makes the header copies equal, nothing where they are."""
    return () if copies.state is Copies.EQUAL else (RepairHeader(volume, device, header_uuid),)


def by_hand(desired: DesiredVolume) -> str:
    """Return what an operator can do about a plain volume that is to be encrypted, where nothing asks for it yet."""
    if desired.volume == STATE:
        return "luksctl reset --system-labels-to-wipe STATE --reboot: its config brings back what was on it"
    return f"luksctl encrypt {desired.volume} --in-place keeps its data; luksctl reset destroys it"


def recipe(desired: DesiredVolume) -> str:
    """Return what leads to an encrypted volume where that cannot be done in place."""
    return (
        f"back its files up, luksctl reset --system-labels-to-wipe {desired.volume} --reboot, and restore them: "
        "the boot makes it encrypted"
    )


def _begin(desired: DesiredVolume, device: Device, intent: InPlaceIntent, scratch_dir: str) -> tuple[Step, ...]:
    encryption = _expect_wanted(desired, intent)
    if desired.format_refusal is not None:
        raise Refused(f"{device.path} would be encrypted in place, but {desired.format_refusal}")
    if intent.attempt >= MAX_ATTEMPTS:
        because = f" ({intent.last_error})" if intent.last_error else ""
        raise AttemptsExhausted(
            f"encrypting it in place failed {intent.attempt} times{because}; its filesystem is whole",
            hint=f"mend the cause, then: luksctl retry {intent.volume}",
        )
    _expect_budget(desired, encryption)
    if device.size_bytes < SMALLEST_BYTES:
        raise Refused(f"{device.path} has {format_size(device.size_bytes)}, too little for a header beside the data")
    intent = replace(intent, attempt=intent.attempt + 1)
    volume, required = desired.volume, desired.policy.format_requires is FormatRequires.ALL
    scratch = Device(f"{scratch_dir}/{volume}.header", _SCRATCH_BYTES, image=True)
    steps: list[Step] = [CheckInPlace(volume, device, desired.shrinking)]
    steps += [MakeKey(volume, key, required) for key in encryption.keys]
    as_written = replace(encryption, block_size_bytes=_SECTOR_BYTES)
    steps.append(BuildHeader(volume, scratch, intent.header_uuid, as_written, desired.policy.talos_readable))
    for key in encryption.keys:
        steps.append(AddKeyslot(volume, scratch, key.slot, desired.policy.kdf_for(key.kind)))
        if key.kind in KINDS_WITH_TOKEN:
            steps.append(WriteToken(volume, scratch, key.slot))
        steps.append(ProveKey(volume, scratch, key, required))
    token = bookkeeping_token(encryption, ())
    if token is not None:
        kinds = desired.policy.unfingerprinted
        steps.append(RecordKeyslots(volume, scratch, encryption.keys, token, unfingerprinted=kinds))
    steps += [AnnounceInPlace(volume, intent), MakeRoom(volume, device, intent, desired.shrinking)]
    if volume == STATE:
        steps.append(WriteStateEncryption(volume, encryption))
    steps += [
        MoveHead(volume, device, scratch, encryption, intent),
        PlaceHeader(volume, device, scratch, intent.header_uuid),
        ProveAnyKey(volume, device, encryption),
        ConcludePlacement(volume, device, intent.header_uuid),
    ]
    return tuple(steps)


def _expect_wanted(desired: DesiredVolume, intent: InPlaceIntent) -> VolumeEncryption:
    encryption = desired.encryption
    if encryption is None or not encryption.keys:
        raise Refused(
            "META announces that it is encrypted in place, and the config has no key for it",
            hint=f"luksctl retry {intent.volume} --drop-intent takes the announcement back",
        )
    return encryption


def _expect_budget(desired: DesiredVolume, encryption: VolumeEncryption) -> None:
    budget = budget_of_format(encryption, desired.policy)
    if not budget.fits:
        raise Refused(
            f"{len(encryption.keys)} keys may need {budget.needed_bytes} bytes of JSON, and the header would hold "
            f"{budget.capacity_bytes}",
            hint="configure fewer keys",
        )


def _expect_meta(meta: MetaFacts, device: Device) -> None:
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        raise MetaError(
            f"{device.path} cannot be encrypted in place: META is {meta.state}, so it cannot be announced",
            hint="luksctl meta list",
        )
