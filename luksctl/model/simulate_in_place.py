"""What a step of work in place leaves behind, worked out without a disk. Pure."""

from __future__ import annotations

from luksctl.hints import assert_never
from luksctl.model.announced_step import (
    AnnounceDecryption,
    AnnounceInPlace,
    BeginDecryption,
    BuildHeader,
    CheckInPlace,
    ConcludeDecryption,
    ConcludeDetachment,
    ConcludePlacement,
    DecryptStep,
    DetachHeader,
    EncryptStep,
    InPlaceStep,
    MakeRoom,
    MoveHead,
    PlaceHeader,
    RestoreFilesystem,
    RestoreHead,
)
from luksctl.model.config import DEFAULT_CIPHER
from luksctl.model.header import REENCRYPT_REQUIREMENT, Copies, HeaderCopies, HeaderCopy, LuksHeader, Segment
from luksctl.model.in_place import SHIFT_BYTES
from luksctl.model.intent import DecryptIntent, InPlaceIntent, InPlacePhase, ReencryptIntent, ReencryptKind
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import Decrypting, Encrypting, FilesystemFound, Luks2, Observed
from luksctl.model.probe import Range, Signature
from luksctl.units import KIB
from luksctl.value import replace

_State = tuple[Observed, MetaFacts]


def in_place(observed: Observed, meta: MetaFacts, step: InPlaceStep) -> _State:
    """Return volume and META after `step`; ValueError where it makes no sense there."""
    if isinstance(step, DecryptStep):
        return _decrypting(observed, meta, step)
    return _encrypting(observed, meta, step)


def _encrypting(observed: Observed, meta: MetaFacts, step: EncryptStep) -> _State:  # noqa: PLR0911  # one case per step
    match step:
        case CheckInPlace() | BuildHeader():
            return observed, meta
        case AnnounceInPlace(_, intent):
            return _announced(observed, meta, intent)
        case MakeRoom():
            return _begun(observed, InPlacePhase.PREPARING), meta
        case MoveHead(_, device, _, _, intent):
            _begun(observed, InPlacePhase.PREPARING)
            moved = Range(device.size_bytes - SHIFT_BYTES, SHIFT_BYTES)
            placing = replace(intent, phase=InPlacePhase.PLACING, moved=moved, head_sha256="00" * 32)
            return _announced(observed, meta, placing)
        case PlaceHeader(_, _, _, uuid):
            return replace(_begun(observed, InPlacePhase.PLACING), copies=_copies(_placed(uuid))), meta
        case RestoreHead(_, _, intent):
            _begun(observed, InPlacePhase.PLACING)
            return _announced(observed, meta, intent.taken_back)
        case RestoreFilesystem(_, _, intent):
            if _begun(observed, InPlacePhase.SHRINKING).intent.phase is not InPlacePhase.SHRINKING:
                raise ValueError("nothing was shrunk")
            return _announced(observed, meta, intent.taken_back)
        case ConcludePlacement(volume, device, uuid):
            found = _begun(observed, InPlacePhase.PLACING)
            if found.placed is None:
                raise ValueError("no header is placed")
            goes_on = ReencryptIntent(volume, device.identity, uuid, DEFAULT_CIPHER, kind=ReencryptKind.ENCRYPT)
            record = meta.record.with_finished(volume, device.identity, encrypted=True).with_intent(goes_on)
            return Luks2(device, found.copies, found.placed, reencryption=goes_on), _written(meta, record)
    assert_never(step)


def _decrypting(observed: Observed, meta: MetaFacts, step: DecryptStep) -> _State:
    if isinstance(step, AnnounceDecryption):
        return _announced_back(observed, meta, step.intent)
    if isinstance(step, ConcludeDecryption):
        plain = FilesystemFound(replace(step.device, header=""), Signature("ext4", usage="filesystem"))
        return plain, _written(meta, meta.record.with_finished(step.volume, step.device.identity, encrypted=False))
    if not isinstance(observed, Decrypting) or observed.holder is not None:
        raise ValueError(f"decrypting {type(observed).__name__} in place, or below what is in use")
    match step:
        case DetachHeader():
            return replace(observed, detached=observed.copies), meta
        case BeginDecryption():
            begun = replace(_whole(observed), requirements=(REENCRYPT_REQUIREMENT,))
            return replace(observed, copies=HeaderCopies(Copies.NONE), detached=_copies(begun)), meta
        case ConcludeDetachment(volume, device, uuid):
            header = _whole(observed)
            if not header.reencrypting:
                raise ValueError("nothing has begun")
            kind = ReencryptKind.DECRYPT
            goes_on = ReencryptIntent(volume, device.identity, uuid, "", kind=kind, header=device.header)
            going_on = Luks2(device, observed.detached, header, reencryption=goes_on)
            return going_on, _written(meta, meta.record.with_intent(goes_on))
    assert_never(step)


def _announced(observed: Observed, meta: MetaFacts, intent: InPlaceIntent) -> _State:
    """Hold a plain filesystem for one that is being encrypted from the announcement on."""
    meta = _written(meta, meta.record.with_intent(intent))
    match observed:
        case FilesystemFound(device):
            return Encrypting(device, intent, HeaderCopies(Copies.NONE)), meta
        case Encrypting():
            return replace(observed, intent=intent), meta
        case _:
            raise ValueError(f"announcing an encryption in place of {type(observed).__name__}")


def _announced_back(observed: Observed, meta: MetaFacts, intent: DecryptIntent) -> _State:
    meta = _written(meta, meta.record.with_intent(intent))
    match observed:
        case Luks2(device, copies, _, None):
            return Decrypting(replace(device, header=intent.header), intent, copies, HeaderCopies(Copies.NONE)), meta
        case Decrypting():
            return replace(observed, intent=intent), meta
        case _:
            raise ValueError(f"announcing a decryption in place of {type(observed).__name__}")


def _begun(observed: Observed, phase: InPlacePhase) -> Encrypting:
    if not isinstance(observed, Encrypting) or observed.holder is not None:
        raise ValueError(f"encrypting {type(observed).__name__} in place, or below what is in use")
    if (observed.intent.phase is InPlacePhase.PLACING) is not (phase is InPlacePhase.PLACING):
        raise ValueError(f"its encryption in place is in the phase {observed.intent.phase}")
    return observed


def _whole(found: Decrypting) -> LuksHeader:
    header = found.detached.best
    if header is None:
        raise ValueError("no header was saved")
    return header


def _placed(uuid: str) -> LuksHeader:
    segment = Segment(0, "crypt", DEFAULT_CIPHER, 512, SHIFT_BYTES)
    requirements = (REENCRYPT_REQUIREMENT,)
    return LuksHeader(uuid, "", "", 2, 16 * KIB, (), (), (segment,), 1000, requirements, (), "{}")


def _copies(header: LuksHeader) -> HeaderCopies:
    return HeaderCopies(Copies.EQUAL, HeaderCopy(0, header), HeaderCopy(header.header_size_bytes, header))


def _written(meta: MetaFacts, record: NodeRecord) -> MetaFacts:
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        raise ValueError(f"META is {meta.state}, nothing can be written to it")
    return replace(meta, record=record, state=MetaState.OK, problem=None)
