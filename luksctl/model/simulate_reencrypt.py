"""What a step of a re-encryption leaves behind, worked out without a disk. Pure."""

from __future__ import annotations

import json

from luksctl.hints import Final, assert_never
from luksctl.model.announced_step import (
    AddNewKeyslots,
    AnnounceReencryption,
    ConcludeReencryption,
    EndReencryption,
    ReencryptStep,
    RunReencryption,
    StartReencryption,
    TakeBackReencryption,
)
from luksctl.model.bookkeeping import TOKEN_TYPE, Bookkeeping, Underway, encode
from luksctl.model.header import (
    REENCRYPT_REQUIREMENT,
    Copies,
    HeaderCopies,
    HeaderCopy,
    Keyslot,
    LuksHeader,
    Token,
)
from luksctl.model.intent import MovedSlot, ReencryptIntent, SlotRole
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.value import replace

_OWN: Final = "reencrypt"
_EXPECTED: Final = {
    AddNewKeyslots: ReencryptStage.SETTLING,  # announced, and nothing is there
    StartReencryption: ReencryptStage.PREPARING,
    RunReencryption: ReencryptStage.RUNNING,
    EndReencryption: ReencryptStage.RUNNING,
    TakeBackReencryption: ReencryptStage.PREPARING,
    ConcludeReencryption: ReencryptStage.SETTLING,
}


def reencrypting(found: Luks2, meta: MetaFacts, step: ReencryptStep) -> tuple[Luks2, MetaFacts]:
    """Return volume and META after `step`; ValueError where it makes no sense there."""
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        raise ValueError(f"META is {meta.state}, nothing can be announced in it")
    if isinstance(step, AnnounceReencryption):
        if found.header.reencrypting or found.reencryption is not None:
            raise ValueError("announcing a second re-encryption")
        announced = replace(meta, record=meta.record.with_intent(step.intent), state=MetaState.OK)
        return replace(found, reencryption=step.intent), announced
    if found.reencrypt_stage is not _EXPECTED[type(step)]:
        raise ValueError(f"{type(step).__name__} while it is {found.reencrypt_stage}")
    header = found.header
    match step:
        case AddNewKeyslots(_, _, intent):
            return _with(found, _prepared(header, intent)), meta
        case StartReencryption():
            own = Keyslot(_free(header), "", None, None, None, None, "", type=_OWN)
            started = replace(header, requirements=(REENCRYPT_REQUIREMENT,), keyslots=(*header.keyslots, own))
            return _with(found, started), meta
        case RunReencryption(_, _, intent) | EndReencryption(_, _, intent):
            return _with(found, _done(header, intent)), meta
        case TakeBackReencryption(_, _, intent, slots):
            kept = tuple(slot for slot in header.keyslots if slot.number not in slots)
            tokens = tuple(token for token in header.tokens if token.number not in {intent.token, *slots})
            return _with(found, replace(header, keyslots=kept, tokens=tokens)), meta
        case ConcludeReencryption(volume):
            return replace(found, reencryption=None), replace(meta, record=meta.record.without_intent(volume))
    assert_never(step)


def _prepared(header: LuksHeader, intent: ReencryptIntent) -> LuksHeader:
    """Add the new keyslots, bound to no data, copies of tokens, and the bookkeeping; its MAC stays empty."""
    added = tuple(_like(header, slot) for slot in intent.moved)
    copied = tuple(
        replace(token, number=slot.new)
        for slot in intent.moved
        if slot.role is SlotRole.CONFIG and (token := header.token(slot.old)) is not None
    )
    underway = tuple(Underway(slot.new, slot.old) for slot in intent.moved if slot.role is SlotRole.CONFIG)
    books = Token(intent.token, TOKEN_TYPE, (), encode(Bookkeeping(1 << 32, (), underway), ""))
    return replace(
        header,
        keyslots=(*header.keyslots, *added),
        tokens=(*header.tokens, *copied, books),
        json=_digests(intent, segments=[]),
    )


def _like(header: LuksHeader, slot: MovedSlot) -> Keyslot:
    old = header.keyslot(slot.old)
    if old is None:
        raise ValueError(f"there is no keyslot {slot.old} to carry over")
    return replace(old, number=slot.new)


def _done(header: LuksHeader, intent: ReencryptIntent) -> LuksHeader:
    new = {slot.new for slot in intent.moved}
    kept = tuple(slot for slot in header.keyslots if slot.number in new)
    # The bookkeeping of the old volume key does not verify any more, and the next write of it removes it.
    tokens = tuple(token for token in header.tokens if token.type != TOKEN_TYPE or token.number == intent.token)
    return replace(header, requirements=(), keyslots=kept, tokens=tokens, json=_digests(intent, segments=["0"]))


def _digests(intent: ReencryptIntent, *, segments: list[str]) -> str:
    return json.dumps({"digests": {"1": {"keyslots": [str(slot.new) for slot in intent.moved], "segments": segments}}})


def _free(header: LuksHeader) -> int:
    taken = {slot.number for slot in header.keyslots}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _with(found: Luks2, header: LuksHeader) -> Luks2:
    newer = replace(header, seqid=header.seqid + 1)
    first, second = HeaderCopy(0, newer), HeaderCopy(newer.header_size_bytes, newer)
    return replace(found, header=newer, copies=HeaderCopies(Copies.EQUAL, first, second))
