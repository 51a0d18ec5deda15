"""Decide which steps turn what is observed into what is desired, or why none may be taken. Pure.

Nothing is destroyed but on a Blank device, or on one whose interrupted format or whose reset META announces; everything
else is refused with the reason and the next command.
"""

from __future__ import annotations

from luksctl.errors import (
    AmbiguousDevice,
    AttemptsExhausted,
    DeviceMissing,
    LuksctlError,
    MetaError,
    NotBlank,
    Refused,
)
from luksctl.hints import assert_never
from luksctl.model.config import (
    EPHEMERAL,
    STATE,
    FormatRequires,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import REENCRYPT_REQUIREMENT
from luksctl.model.intent import MAX_ATTEMPTS, FormatIntent, FormatPhase, ReencryptKind
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    Decrypting,
    Encrypting,
    Erasing,
    FilesystemFound,
    Foreign,
    Luks2,
    Mapping,
    Missing,
    Observed,
    ReencryptStage,
    Unfinished,
)
from luksctl.model.plan import Plan
from luksctl.model.probe import Device
from luksctl.model.step import (
    AddKeyslot,
    CloseVolume,
    ConcludeFormat,
    EraseHead,
    FinishVolume,
    FormatVolume,
    MakeFilesystem,
    MakeKey,
    OpenVolume,
    ProveKey,
    RecordKeyslots,
    RepairHeader,
    RepairMeta,
    Step,
    WriteIntent,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.units import MIB, format_size
from luksctl.value import frozen, replace

# A plain EPHEMERAL leaves this much free behind its filesystem, so that it can be encrypted in place later.
PLAIN_TAIL_BYTES = 32 * MIB
_META = "META"
_MOUNTABLE = frozenset({"xfs", "ext2", "ext3", "ext4", "btrfs"})
_ANOTHER_HINT = (
    "put the recorded disk back; if this one replaces it for good: luksctl meta delete 0xe0 forgets what was"
)
_ERASE_HINT = "if its content may go: luksctl install --erase on its disk, or zero both ends of the partition by name"


@frozen
class _Case:
    """The input of one decision."""

    desired: DesiredVolume
    meta: MetaFacts
    fresh_uuid: str
    scratch_dir: str


def plan(
    desired: DesiredVolume, observed: Observed, meta: MetaFacts, *, fresh_uuid: str, scratch_dir: str = ""
) -> Plan:
    """Return the plan for one volume. `fresh_uuid` is used if a new header or plain filesystem has to be made.

    `scratch_dir` is where a header is made in memory before it is placed.
    """
    case = _Case(desired, meta, fresh_uuid, scratch_dir)
    volume = desired.volume
    try:
        steps = _steps(case, observed)
    except LuksctlError as refusal:
        refusal.volume = volume
        return Plan(volume, refusal=refusal)
    if meta.state in (MetaState.FIRST_ONLY, MetaState.SECOND_ONLY, MetaState.DIFFER):
        steps = (RepairMeta(volume), *steps)
    return Plan(volume, steps)


def _steps(case: _Case, observed: Observed) -> tuple[Step, ...]:
    match observed:
        case Missing(sought):
            raise DeviceMissing(f"no device found ({sought})", hint="luksctl install DISK, or name it in the settings")
        case Ambiguous(candidates, reason):
            named = ", ".join(candidates)
            another = len(candidates) == 1  # one device, and not the one that was recorded
            hint = _ANOTHER_HINT if another else "name the right disk or device in the settings"
            raise AmbiguousDevice(f"{reason}: {named}", hint=hint)
        case Blank(device):
            intent = _first_intent(case, device)
            return _format(case, device, intent, mapping=None, torn=False)
        case Unfinished():
            return _start_again(case, observed)
        case FilesystemFound():
            return _plain(case, observed)
        case Luks2():
            return _open(case, observed)
        case Foreign(device, what):
            raise NotBlank(f"{device.path} holds {what}; nothing was touched", hint=_ERASE_HINT)
        case Damaged(device, reason):
            raise Refused(
                f"{device.path}: {reason}; nothing was touched", hint="luksctl status shows both header copies"
            )
        case Erasing():
            # Not at the top: few boots have a reset to finish, and their start is timed.
            from luksctl.reconcile.plan_reset import steps_of_reset  # noqa: PLC0415

            return steps_of_reset(observed, case.meta)
        case Encrypting() | Decrypting():
            from luksctl.reconcile.plan_in_place import steps_in_place  # noqa: PLC0415  # as Erasing

            return steps_in_place(case.desired, observed, case.meta, case.scratch_dir)
        case _:
            assert_never(observed)


# ---- formatting -----------------------------------------------------------------------------------------------------


def _first_intent(case: _Case, device: Device) -> FormatIntent:
    announced = case.meta.record.intent(case.desired.volume)
    if isinstance(announced, FormatIntent) and announced.partition == device.identity:
        return _next_attempt(announced)
    return FormatIntent(case.desired.volume, device.identity, case.fresh_uuid)


def _next_attempt(intent: FormatIntent) -> FormatIntent:
    if intent.attempt >= MAX_ATTEMPTS:
        because = f" ({intent.last_error})" if intent.last_error else ""
        raise AttemptsExhausted(
            f"the first format failed {intent.attempt} times, last while making the {intent.phase}{because}",
            hint=f"mend the cause, then: luksctl retry {intent.volume}",
        )
    # The header UUID stays: whatever the last attempt left on the device is still named by the intent.
    return replace(intent, attempt=intent.attempt + 1, phase=FormatPhase.HEADER)


def _start_again(case: _Case, found: Unfinished) -> tuple[Step, ...]:
    return _format(case, found.device, _next_attempt(found.intent), mapping=found.mapping, torn=True)


def _format(
    case: _Case, device: Device, intent: FormatIntent, *, mapping: Mapping | None, torn: bool
) -> tuple[Step, ...]:
    desired = case.desired
    if desired.format_refusal is not None:
        raise Refused(f"{device.path} would have to be formatted, but {desired.format_refusal}")
    if case.meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        raise MetaError(
            f"{device.path} cannot be formatted: META is {case.meta.state}, so the format cannot be announced",
            hint="luksctl meta list",
        )
    if desired.encryption is None:
        close = () if mapping is None else (CloseVolume(desired.volume, mapping.name),)
        erase = (EraseHead(desired.volume, device),) if torn else ()
        return _format_plain(case, device, intent, (*close, *erase))
    if not desired.encryption.keys:
        raise Refused(f"{device.path} would have to be formatted, but no key is configured for it")
    _expect_room(desired, desired.encryption, device)
    return _format_encrypted(desired, desired.encryption, device, intent, mapping)


def _expect_room(desired: DesiredVolume, encryption: VolumeEncryption, device: Device) -> None:
    """Raise Refused where the keys do not fit into a new header."""
    # Not at the top: a boot that only opens formats nothing, and its start is timed.
    from luksctl.model.json_budget import budget_of_format  # noqa: PLC0415

    budget = budget_of_format(encryption, desired.policy)
    if not budget.fits:
        large = desired.policy.talos_readable
        raise Refused(
            f"{device.path} would have to be formatted, but {len(encryption.keys)} keys may need "
            f"{budget.needed_bytes} bytes of JSON, and its header would hold {budget.capacity_bytes}",
            hint="talosReadable: false in the EncryptionPolicy makes it larger" if large else "configure fewer keys",
        )


def _format_plain(
    case: _Case, device: Device, intent: FormatIntent, clear: tuple[CloseVolume | EraseHead, ...]
) -> tuple[Step, ...]:
    volume = case.desired.volume
    if volume == STATE and _tag9_expects_encryption(case.meta):
        raise Refused("META says that STATE is encrypted, the config wants it plain", hint="luksctl meta read 9")
    size_bytes = device.size_bytes - (PLAIN_TAIL_BYTES if volume == EPHEMERAL else 0)
    if size_bytes <= 0:
        raise Refused(
            f"{device.path} is too small: {format_size(PLAIN_TAIL_BYTES)} behind a plain filesystem stay free",
            hint="make the partition larger",
        )
    announce = WriteIntent(volume, replace(intent, phase=FormatPhase.FILESYSTEM))
    make = MakeFilesystem(volume, device.path, case.desired.filesystem, intent.header_uuid, size_bytes)
    # A tag 9 that says "null" goes too, or META would not be what a plain STATE asks for.
    forget = (WriteStateEncryption(STATE, None),) if volume == STATE and case.meta.has_tag9 else ()
    return (announce, *clear, make, *forget, ConcludeFormat(volume, device.identity, encrypted=False))


def _who_expects_encryption(desired: DesiredVolume, meta: MetaFacts) -> str | None:
    if desired.volume in meta.record.encrypted or (desired.volume == STATE and _tag9_expects_encryption(meta)):
        return _META
    return "what luksctl enable recorded" if desired.expect_encrypted else None


def _tag9_expects_encryption(meta: MetaFacts) -> bool:
    """Tell whether tag 9 says that STATE is encrypted; one that cannot be parsed may well say so."""
    return meta.state_encryption is not None or meta.tag9_problem is not None


def _format_encrypted(
    desired: DesiredVolume,
    encryption: VolumeEncryption,
    device: Device,
    intent: FormatIntent,
    mapping: Mapping | None,
) -> tuple[Step, ...]:
    # Not at the top: a boot that only opens plans no keyslot, and its start is timed.
    from luksctl.reconcile.plan_sync import KINDS_WITH_TOKEN, bookkeeping_token  # noqa: PLC0415

    volume = desired.volume
    required = desired.policy.format_requires is FormatRequires.ALL
    target = f"/dev/mapper/{desired.mapped_name}"
    steps: list[Step] = [MakeKey(volume, key, required) for key in encryption.keys]
    steps.append(WriteIntent(volume, intent))
    if mapping is not None:
        steps.append(CloseVolume(volume, mapping.name))
    steps.append(FormatVolume(volume, device, intent.header_uuid, encryption, desired.policy.talos_readable))
    for key in encryption.keys:
        steps.append(AddKeyslot(volume, device, key.slot, desired.policy.kdf_for(key.kind)))
        if key.kind in KINDS_WITH_TOKEN:
            steps.append(WriteToken(volume, device, key.slot))
        steps.append(ProveKey(volume, device, key, required))
    token = bookkeeping_token(encryption, ())
    if token is not None:
        steps.append(
            RecordKeyslots(volume, device, encryption.keys, token, unfingerprinted=desired.policy.unfingerprinted)
        )
    if volume == STATE:
        steps.append(WriteStateEncryption(volume, encryption))
    steps += [
        OpenVolume(volume, device, desired.mapped_name, encryption),
        WriteIntent(volume, replace(intent, phase=FormatPhase.FILESYSTEM)),
        MakeFilesystem(volume, target, desired.filesystem, None, 0),
        WriteIntent(volume, replace(intent, phase=FormatPhase.FINISH)),
        FinishVolume(volume, device, intent.header_uuid),
        ConcludeFormat(volume, device.identity, encrypted=True),
    ]
    return tuple(steps)


# ---- what is there already ------------------------------------------------------------------------------------------


def _plain(case: _Case, found: FilesystemFound) -> tuple[Step, ...]:
    desired, kind = case.desired, found.signature.type
    if desired.encryption is not None:
        return _plain_to_encrypted(case, found)
    if not case.meta.readable:
        # Two bad copies are not an empty META: they may have said that this volume is encrypted.
        raise MetaError(
            f"{found.device.path} holds a plain {kind} filesystem, and META, which knows whether it should be "
            f"encrypted, is unreadable ({case.meta.problem}); not mounted",
            hint="luksctl meta list",
        )
    expecting = _who_expects_encryption(desired, case.meta)
    if expecting is not None:
        raise Refused(
            f"{found.device.path} holds a plain {kind} filesystem where {expecting} expects an encrypted volume; "
            "not mounted",
            hint="find out who replaced it; luksctl status shows what was expected",
        )
    if kind not in _MOUNTABLE:
        raise NotBlank(f"{found.device.path} holds {kind}, which is no filesystem for it; nothing was touched")
    if desired.follow_in_meta and case.meta.has_tag9:
        return (WriteStateEncryption(STATE, None),)
    return ()


def _plain_to_encrypted(case: _Case, found: FilesystemFound) -> tuple[Step, ...]:
    """Encrypt what is there in place, where the config says so; a filesystem that stands in for a volume of ours never.

    What was encrypted once and is plain now was put there by somebody else.
    """
    from luksctl.reconcile.plan_in_place import by_hand, first_steps  # noqa: PLC0415  # few volumes are plain

    desired, kind = case.desired, found.signature.type
    if not desired.policy.in_place:
        raise NotBlank(
            f"{found.device.path} holds a plain {kind} filesystem, the config wants it encrypted; nothing was touched",
            hint=by_hand(desired),
        )
    expecting = _who_expects_encryption(desired, case.meta)
    if expecting is not None:
        by_name = f"; if it is the one of before: luksctl encrypt {desired.volume} --in-place"
        raise Refused(
            f"{found.device.path} holds a plain {kind} filesystem where {expecting} expects an encrypted volume; "
            "nothing was touched",
            hint="find out who put it there" + ("" if expecting == _META else by_name),
        )
    return first_steps(desired, found, case.meta, case.fresh_uuid, case.scratch_dir)


def _open(case: _Case, found: Luks2) -> tuple[Step, ...]:
    desired, volume = case.desired, case.desired.volume
    if desired.encryption is None:
        return _encrypted_to_plain(case, found)
    if found.header.reencrypting or found.header.requirements:
        _expect_ours_to_reencrypt(found)
    if found.mapping is not None and found.mapping.signature is None:
        inside = found.mapping.problem or "it holds no filesystem"
        raise Refused(f"/dev/mapper/{desired.mapped_name} is open, but {inside}; nothing was made there")
    steps: list[Step] = []
    if found.reencrypt_stage is ReencryptStage.RUNNING and found.mapping is None:
        from luksctl.reconcile.plan_reencrypt import steps_before_opening  # noqa: PLC0415  # few boots have one

        steps += steps_before_opening(found)
    if found.mapping is None:
        steps.append(OpenVolume(volume, found.device, desired.mapped_name, desired.encryption, desired.fallback))
    # While it is re-encrypted, the library writes one copy after the other, and mends them when it opens.
    if not found.copies_equal and found.reencrypt_stage is not ReencryptStage.RUNNING:
        steps += _repair(case, found)
    if found.format_intent is not None:
        steps.append(ConcludeFormat(volume, found.device.identity, encrypted=True))
    return tuple(steps)


def _encrypted_to_plain(case: _Case, found: Luks2) -> tuple[Step, ...]:
    desired = case.desired
    if found.reencryption is not None and found.reencryption.kind is ReencryptKind.DECRYPT:
        from luksctl.reconcile.plan_in_place import steps_while_decrypting  # noqa: PLC0415  # as steps_to_decrypt

        return steps_while_decrypting(desired, found)
    if not desired.policy.in_place:
        raise NotBlank(
            f"{found.device.path} is a LUKS2 volume, but the config asks for no encryption; it was not opened",
            hint=f"add its keys to the config; or luksctl decrypt {desired.volume} keeps its data, luksctl reset not",
        )
    from luksctl.reconcile.plan_in_place import steps_to_decrypt  # noqa: PLC0415  # few boots decrypt in place

    return steps_to_decrypt(desired, found, case.meta)


def _expect_ours_to_reencrypt(found: Luks2) -> None:
    """Raise Refused unless META announces the re-encryption that is under way.

    Metadata of one can be forged, and opening would go on from there.
    """
    known = all(requirement == REENCRYPT_REQUIREMENT for requirement in found.header.requirements)
    if found.reencryption is not None and known and found.header.requirements:
        return
    if found.header.reencrypting and known:
        raise Refused(
            f"{found.device.path} is being re-encrypted, and META does not say that luksctl began that; it was not "
            "opened",
            hint=f"if you know who began it: cryptsetup reencrypt --resume-only {found.device.path}",
        )
    unknown = ", ".join(found.header.requirements) or "a re-encryption without its mark"
    raise Refused(f"the header of {found.device.path} has requirements this version does not know ({unknown})")


def _repair(case: _Case, found: Luks2) -> tuple[Step, ...]:
    """Repair a header copy only where META records the volume as ours; after opening, so a key has vouched for it."""
    record = case.meta.record
    # A recorded partition alone is not enough: install records it before anything of ours is on it.
    finished = case.desired.volume in record.encrypted
    ours = finished and record.partition(case.desired.volume) == found.device.identity
    if not ours and found.format_intent is None:
        raise Refused(
            f"the header copies of {found.device.path} do not agree ({found.copies.state}), and META does not know "
            "this volume as ours; nothing was touched",
            hint="look at it with cryptsetup luksDump on a copy; cryptsetup repair mends it",
        )
    return (RepairHeader(case.desired.volume, found.device, found.header.uuid),)
