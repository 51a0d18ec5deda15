"""What a step leaves behind, worked out without a disk. Pure; tests hold the real library against it."""

from __future__ import annotations

import json
from collections.abc import Callable

from luksctl.hints import assert_never
from luksctl.model.announced_step import (
    AnnounceReset,
    ConcludeReset,
    Discard,
    EraseEnds,
    EraseHeader,
    InPlaceStep,
    Overwrite,
)
from luksctl.model.bookkeeping import TOKEN_TYPE, Bookkeeping, Purpose, SlotNote, decode, encode
from luksctl.model.config import DEFAULT_CIPHER, VolumeEncryption
from luksctl.model.header import UNFINISHED_MARK, Copies, HeaderCopies, HeaderCopy, Keyslot, LuksHeader, Segment, Token
from luksctl.model.intent import FormatIntent, ResetIntent
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
    Unfinished,
)
from luksctl.model.probe import Device, Signature
from luksctl.model.simulate_in_place import in_place
from luksctl.model.simulate_reencrypt import reencrypting
from luksctl.model.step import (
    AddKeyslot,
    AnnounceKeyslot,
    CloseVolume,
    ConcludeFormat,
    DisownKeyslot,
    EraseHead,
    FinishVolume,
    ForgetKeyslots,
    FormatVolume,
    MakeFilesystem,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    RecordKeyslots,
    RemoveKeyslot,
    RepairHeader,
    RepairMeta,
    StageRotation,
    Step,
    TakeKey,
    WriteIntent,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.units import KIB, MIB
from luksctl.value import frozen, replace


@frozen
class World:
    """One volume and META, as observe would find them now."""

    observed: Observed
    meta: MetaFacts


def simulate(world: World, step: Step) -> World:  # noqa: C901, PLR0911, PLR0912  # one case per step
    """Return the world after `step`; ValueError for a step that makes no sense where the world is."""
    if isinstance(step, InPlaceStep):
        return World(*in_place(world.observed, world.meta, step))
    match step:
        case MakeKey() | WriteToken() | ProveKey() | TakeKey() | ProveAnyKey():
            return world
        case AddKeyslot() | RecordKeyslots() if isinstance(world.observed, Encrypting | FilesystemFound):
            return world  # into the header in memory
        case AnnounceKeyslot(_, _, slot, serves, token):
            return _with_header(world, _noting(_header(world), token, lambda books: books.with_underway(slot, serves)))
        case RecordKeyslots(_, _, keys, token, recovery):
            purpose = Purpose.RECOVERY if recovery else Purpose.CONFIG
            notes = tuple(SlotNote(key.slot, purpose, 0) for key in keys)
            return _with_header(world, _noting(_header(world), token, lambda books: _with_notes(books, notes)))
        case ForgetKeyslots(_, _, slots, token):
            return _with_header(world, _noting(_header(world), token, lambda books: _without(books, slots)))
        case DisownKeyslot(_, _, slot, token):
            return _with_header(world, _noting(_header(world), token, lambda books: books.disowned(slot)))
        case StageRotation(_, _, due, token):
            return _with_header(world, _noting(_header(world), token, lambda books: books.with_due(due)))
        case RemoveKeyslot(_, _, slot):
            kept = tuple(keyslot for keyslot in _header(world).keyslots if keyslot.number != slot)
            return _with_header(world, replace(_header(world), keyslots=kept))
        case RepairMeta():
            return replace(world, meta=replace(world.meta, state=MetaState.OK, problem=None))
        case WriteIntent(_, intent):
            return _announce(world, intent)
        case AnnounceReset() | EraseHeader() | EraseEnds() | Overwrite() | Discard() | ConcludeReset():
            return _resetting(world, step)
        case CloseVolume():
            return reboot(world)
        case EraseHead():
            return replace(world, observed=replace(_closed(world), header=None))
        case FormatVolume(_, _, header_uuid, encryption, _):
            return replace(world, observed=replace(_closed(world), header=_empty_header(header_uuid, encryption)))
        case AddKeyslot(_, _, slot, kdf):
            added = Keyslot(slot, "argon2id", kdf.time, kdf.memory_kib, kdf.threads, None, "aes-xts-plain64")
            return _with_header(world, replace(_header(world), keyslots=(*_header(world).keyslots, added)))
        case WriteStateEncryption(_, wish):
            facts = replace(world.meta, state_encryption=wish, has_tag9=wish is not None, tag9_problem=None)
            return replace(world, meta=_written(facts))
        case RepairHeader():
            luks = _luks(world)
            return replace(world, observed=replace(luks, copies=_equal_copies(luks.header)))
        case OpenVolume(_, device, mapped_name):
            return _opened(world, Mapping(mapped_name, f"/dev/mapper/{mapped_name}", device.path))
        case MakeFilesystem():
            return _with_filesystem(world, step)
        case FinishVolume(_, device, _):
            return _finished(world, device)
        case ConcludeFormat(volume, partition, encrypted):
            record = world.meta.record.with_finished(volume, partition, encrypted=encrypted)
            return _concluded(World(world.observed, _written(replace(world.meta, record=record))))
        case _:
            return World(*reencrypting(_luks(world), world.meta, step))


def _resetting(
    world: World, step: AnnounceReset | EraseHeader | EraseEnds | Overwrite | Discard | ConcludeReset
) -> World:
    match step:
        case AnnounceReset(_, intent):
            return _announce_reset(world, intent)
        case EraseHeader() | EraseEnds() | Discard():
            return replace(world, observed=_erased(world, step))
        case Overwrite(_, device, intent):
            _erased(world, step)
            return _announce_reset(world, replace(intent, position_bytes=device.size_bytes, attempt=0, last_error=""))
        case ConcludeReset(volume, device):
            _erased(world, step)
            meta = replace(world.meta, record=world.meta.record.with_erased(volume))
            return World(Blank(device), _written(meta))
    assert_never(step)


def reboot(world: World) -> World:
    """Return the world after the power went: what is on disk stays, mappings are gone."""
    observed = world.observed
    if isinstance(observed, Erasing):
        return replace(world, observed=replace(observed, mapping=None, holder=None))
    if isinstance(observed, Unfinished | Luks2):
        return replace(world, observed=replace(observed, mapping=None))
    return world


def _written(meta: MetaFacts) -> MetaFacts:
    if meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        raise ValueError(f"META is {meta.state}, nothing can be written to it")
    return replace(meta, state=MetaState.OK, problem=None)


def _announce_reset(world: World, intent: ResetIntent) -> World:
    meta = _written(replace(world.meta, record=world.meta.record.with_intent(intent)))
    return World(_announced_reset(world.observed, intent), meta)


def _announce(world: World, intent: FormatIntent) -> World:
    """Hold a format for unfinished from its announcement on, also where the device is still blank."""
    meta = _written(replace(world.meta, record=world.meta.record.with_intent(intent)))
    match world.observed:
        case Blank(device):
            return World(Unfinished(device, intent, None), meta)
        case Unfinished() as observed:
            return World(replace(observed, intent=intent), meta)
        case _:
            raise ValueError(f"announcing a format of {type(world.observed).__name__}")


def _announced_reset(observed: Observed, intent: ResetIntent) -> Erasing:
    """Return what observe makes of any device whose reset is announced: whatever it was, it is being erased."""
    match observed:
        case Missing() | Ambiguous():
            raise ValueError(f"announcing a reset of {type(observed).__name__}")
        case Erasing():
            return replace(observed, intent=intent)
        case Luks2(device, copies, _, mapping):
            return Erasing(device, intent, copies, mapping)
        case Unfinished(device, _, header, mapping):
            return Erasing(device, intent, _equal_copies(header) if header else HeaderCopies(Copies.NONE), mapping)
        case Encrypting(device, _, copies) | Decrypting(device, _, copies):
            return Erasing(replace(device, header=""), intent, copies)
        case Damaged(device):
            return Erasing(device, intent, HeaderCopies(Copies.DAMAGED))
        case Blank(device) | FilesystemFound(device) | Foreign(device):
            return Erasing(device, intent, HeaderCopies(Copies.NONE))
    assert_never(observed)


def _erased(world: World, step: EraseHeader | EraseEnds | Overwrite | Discard | ConcludeReset) -> Erasing:
    """Return what is left after a step that may only be taken on what META announces to be erased."""
    observed = world.observed
    if not isinstance(observed, Erasing):
        raise ValueError(f"erasing {type(observed).__name__}, which nobody announced")
    if not isinstance(step, EraseHeader) and (observed.mapping is not None or observed.holder is not None):
        raise ValueError(f"{type(step).__name__} below what is in use")
    return replace(observed, copies=HeaderCopies(Copies.NONE))


def _closed(world: World) -> Unfinished:
    """Return the unfinished format that a step may destroy."""
    observed = world.observed
    if not isinstance(observed, Unfinished):
        raise ValueError(f"formatting {type(observed).__name__}, which nobody announced")
    if observed.mapping is not None:
        raise ValueError(f"formatting below the open mapping {observed.mapping.name}")
    return observed


def _luks(world: World) -> Luks2:
    if not isinstance(world.observed, Luks2):
        raise ValueError(f"not a finished LUKS2 volume: {type(world.observed).__name__}")
    return world.observed


def _empty_header(uuid: str, encryption: VolumeEncryption) -> LuksHeader:
    segment = Segment(0, "crypt", encryption.cipher or DEFAULT_CIPHER, 4096, 16 * MIB)
    return LuksHeader(
        uuid=uuid,
        label="",
        subsystem=UNFINISHED_MARK,
        seqid=2,
        header_size_bytes=16 * KIB,
        keyslots=(),
        tokens=(),
        segments=(segment,),
        digest_iterations=1000,
        requirements=(),
        flags=(),
        json=json.dumps({}),
    )


def _equal_copies(header: LuksHeader) -> HeaderCopies:
    second = HeaderCopy(header.header_size_bytes, header)
    return HeaderCopies(Copies.EQUAL, HeaderCopy(0, header), second)


def _header(world: World) -> LuksHeader:
    observed = world.observed
    if not isinstance(observed, Unfinished | Luks2) or observed.header is None:
        raise ValueError("a keyslot needs a header")
    return observed.header


def _with_header(world: World, header: LuksHeader) -> World:
    newer = replace(header, seqid=header.seqid + 1)
    match world.observed:
        case Luks2() as observed:
            return replace(world, observed=replace(observed, header=newer, copies=_equal_copies(newer)))
        case observed:
            return replace(world, observed=replace(observed, header=newer))


def _noting(header: LuksHeader, number: int, change: Callable[[Bookkeeping], Bookkeeping]) -> LuksHeader:
    """Change the bookkeeping token; its MAC, which needs a volume key, stays empty."""
    ours = [token for token in header.tokens if token.type == TOKEN_TYPE]
    books = decode(ours[0].json)[0] if ours else Bookkeeping()
    changed = change(books)
    text = encode(replace(changed, counter=books.counter + 1), "")
    others = tuple(token for token in header.tokens if token.type != TOKEN_TYPE)
    return replace(header, tokens=(*others, Token(number, TOKEN_TYPE, (), text)))


def _with_notes(books: Bookkeeping, notes: tuple[SlotNote, ...]) -> Bookkeeping:
    for note in notes:
        books = books.with_note(note)
    return books


def _without(books: Bookkeeping, slots: tuple[int, ...]) -> Bookkeeping:
    for slot in slots:
        books = books.without(slot)
    return books


def _opened(world: World, mapping: Mapping) -> World:
    observed = world.observed
    if isinstance(observed, Luks2):
        inside = replace(mapping, signature=Signature("xfs", usage="filesystem"))
        return replace(world, observed=replace(observed, mapping=inside))
    if isinstance(observed, Unfinished) and observed.header is not None and observed.header.keyslots:
        return replace(world, observed=replace(observed, mapping=mapping))
    raise ValueError("nothing to open")


def _with_filesystem(world: World, step: MakeFilesystem) -> World:
    observed = world.observed
    match observed:
        case Unfinished(mapping=Mapping(path=path) as mapping) if path == step.target:
            inside = replace(mapping, signature=Signature(step.filesystem.value, step.volume, usage="filesystem"))
            return replace(world, observed=replace(observed, mapping=inside))
        case Unfinished(device, header=None, mapping=None) if device.path == step.target:
            # Until the intent is gone, observe takes a plain filesystem with the announced UUID for unfinished.
            return world
        case _:
            raise ValueError(f"mkfs on {step.target} over {type(observed).__name__}")


def _finished(world: World, device: Device) -> World:
    observed = world.observed
    if not isinstance(observed, Unfinished) or observed.header is None:
        raise ValueError("nothing to finish")
    header = replace(observed.header, subsystem="", seqid=observed.header.seqid + 1)
    done = Luks2(device, _equal_copies(header), header, observed.mapping, format_intent=observed.intent)
    return replace(world, observed=done)


def _concluded(world: World) -> World:
    observed = world.observed
    match observed:
        case Luks2():
            return replace(world, observed=replace(observed, format_intent=None))
        case Unfinished(device, header=None):
            return replace(world, observed=FilesystemFound(device, Signature("xfs", usage="filesystem")))
        case _:
            raise ValueError(f"concluding over {type(observed).__name__}")
