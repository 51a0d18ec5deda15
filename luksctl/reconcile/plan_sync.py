"""Decide which steps make the keyslots of an open volume those of the config. Pure.

Order: what was announced is resolved, keys are added, changed through a spare and proven; META follows; then slots that
nobody wants any more are removed. A slot is removed only where another one was proven in this run, which `apply` holds.
"""

from __future__ import annotations

from collections.abc import Container

from luksctl.errors import Refused
from luksctl.hints import Final
from luksctl.model.bookkeeping import MAX_KEYS_WITH_BOOKKEEPING, TOKEN_TYPE, Bookkeeping, Purpose
from luksctl.model.config import (
    MAX_SLOT,
    STATE,
    ConfiguredKey,
    EncryptionPolicy,
    KeyKind,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import LuksHeader, Token
from luksctl.model.inspection import Inspection, KeyFinding, KeyState
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.probe import Device
from luksctl.model.sealing import Due, Sealing, Vouching, objection
from luksctl.model.step import (
    AddKeyslot,
    AnnounceKeyslot,
    ForgetKeyslots,
    MakeKey,
    ProveKey,
    RecordKeyslots,
    RemoveKeyslot,
    StageRotation,
    Step,
    TakeKey,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.value import frozen

# Their keys are random, and what recovers them is kept in the header; the other kinds make the same key again.
KINDS_WITH_TOKEN: Final = frozenset({KeyKind.KMS, KeyKind.TPM})


# A number for a token that no step of such a plan names.
_NO_TOKEN: Final = -1
_CANNOT_CHANGE: Final = (
    f"its key does not open it, and with more than {MAX_KEYS_WITH_BOOKKEEPING} keys no slot can be changed in place: "
    "remove it by hand (cryptsetup luksKillSlot), then luksctl sync"
)
_CANNOT_TRY: Final = (
    f"with more than {MAX_KEYS_WITH_BOOKKEEPING} keys nothing is noted that could be taken back: apply it without trial"
)
_CANNOT_REMOVE: Final = (
    f"it is not in the config, and with more than {MAX_KEYS_WITH_BOOKKEEPING} keys luksctl does not know whose it is: "
    "remove it by hand (cryptsetup luksKillSlot)"
)


@frozen
class SyncPlan:
    """Steps in order, and what cannot be brought in sync, one sentence each.

    `sealing` are the lost keys that the steps replace, `late` slots whose lost keys the next boot replaces, as noted.
    """

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()
    sealing: tuple[Sealing, ...] = ()
    late: tuple[int, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Tell whether the header is what the config asks for."""
        return not self.steps and not self.problems and not self.late


def bookkeeping_token(encryption: VolumeEncryption, tokens: tuple[Token, ...]) -> int | None:
    """Return the highest token id that no configured slot and no other token uses; None where there is none to keep.

    Talos takes a token with the number of a slot for that slot's, and refuses a type that it does not know.
    """
    if len(encryption.keys) > MAX_KEYS_WITH_BOOKKEEPING:
        return None
    taken = {key.slot for key in encryption.keys}
    taken |= {token.number for token in tokens if token.type != TOKEN_TYPE}
    return next((number for number in range(MAX_SLOT, -1, -1) if number not in taken), None)


def plan_sync(
    desired: DesiredVolume, device: Device, header: LuksHeader, found: Inspection, meta: MetaFacts
) -> SyncPlan:
    """Return what is left to do for the keyslots of an open volume, and what cannot be done."""
    encryption, books = desired.encryption, found.books
    if encryption is None:
        return SyncPlan()
    if desired.follow_in_meta and meta.state in (MetaState.ABSENT, MetaState.UNREADABLE):
        # What META says, or said, may be all that the next boot has to open STATE.
        return SyncPlan(problems=(f"META is {meta.state}, and could not follow: the keyslots are left as they are",))
    follow = () if desired.trial else _follow_in_meta(desired, encryption, found, meta)
    token = bookkeeping_token(encryption, header.tokens)
    if books is None:
        # A volume of others is opened and left as it is.
        return SyncPlan(follow, () if found.problem is None else (found.problem,))
    if token is None:
        if desired.trial:
            return SyncPlan(problems=(_CANNOT_TRY,))
        case = _Case(desired, device, header, books, _NO_TOKEN, desired.policy)
        return _without_bookkeeping(case, encryption, found, follow)
    case = _Case(desired, device, header, books, token, desired.policy)
    problems = [f"slot {entry.key.slot}: {entry.problem or entry.state}" for entry in found.findings if _stuck(entry)]
    before: list[Step] = []
    record = tuple(entry.key for entry in found.findings if entry.state is KeyState.PROVEN and not entry.noted)
    if record:
        before.append(
            RecordKeyslots(desired.volume, device, record, token, unfingerprinted=desired.policy.unfingerprinted)
        )
    begun: list[tuple[Step, ...]] = []
    changes: list[tuple[Step, ...]] = []
    sealing = []
    spares: set[int] = set()
    late = tuple(entry.key.slot for entry in found.findings if _waits_for_boot(case, entry))
    for entry in (entry for entry in found.findings if entry.key.slot not in late):
        steps, problem = _put(case, entry, found.opener, spares)
        if steps and entry.vouching is not None and not entry.vouching.late:
            sealing.append(Sealing(entry.key.slot, entry.problem or entry.state, entry.vouching))
        if steps:
            (changes if entry.spare is None else begun).append(steps)
        if problem is not None:
            problems.append(f"slot {entry.key.slot}: {problem}")
    if changes and (full := _no_room(case, encryption, found)) is not None:
        changes, sealing = [], []  # what is removed makes room, perhaps, and the next run adds
        problems.append(full)
    removals = () if desired.trial else _remove_unwanted(case, found)
    every = [*before, *(step for change in (*begun, *changes) for step in change)]
    proven = any(entry.state is KeyState.PROVEN for entry in found.findings)
    return SyncPlan((*_with_meta(every, follow, proven=proven), *removals), tuple(problems), tuple(sealing), late)


def plan_adoption(
    desired: DesiredVolume, device: Device, header: LuksHeader, found: Inspection
) -> tuple[RecordKeyslots, ...]:
    """Return the one step that makes a volume ours; Refused where no configured key opens its own slot."""
    encryption = desired.encryption
    token = None if encryption is None else bookkeeping_token(encryption, header.tokens)
    if token is None:
        raise Refused("there is no token id left to note keyslots in", hint="fewer keys in the config, or fewer tokens")
    opened = tuple(entry.key for entry in found.findings if entry.state is KeyState.PROVEN)
    if not opened:
        raise Refused("no configured key opens the keyslot of its number", hint="luksctl status, luksctl check")
    return (RecordKeyslots(desired.volume, device, opened, token, unfingerprinted=desired.policy.unfingerprinted),)


def plan_staging(
    desired: DesiredVolume, device: Device, header: LuksHeader, due: tuple[Due, ...]
) -> tuple[StageRotation, ...]:
    """Return the step that leaves the keys that are `due` to the next boot; none where nothing can be noted."""
    token = None if desired.encryption is None else bookkeeping_token(desired.encryption, header.tokens)
    return () if token is None else (StageRotation(desired.volume, device, due, token),)


@frozen
class _Case:
    desired: DesiredVolume
    device: Device
    header: LuksHeader
    books: Bookkeeping
    token: int
    policy: EncryptionPolicy

    @property
    def configured(self) -> set[int]:
        return set() if self.desired.encryption is None else {key.slot for key in self.desired.encryption.keys}

    def free_slot(self, taken: Container[int] = ()) -> int | None:
        """Return the highest slot that is free for a spare, and not `taken`."""
        used = {slot.number for slot in self.header.keyslots} | self.configured
        tokens = {token.number for token in self.header.tokens if token.type != TOKEN_TYPE} | {self.token}
        return next((n for n in range(MAX_SLOT, -1, -1) if n not in used and n not in tokens and n not in taken), None)


def _without_bookkeeping(
    case: _Case, encryption: VolumeEncryption, found: Inspection, follow: tuple[Step, ...]
) -> SyncPlan:
    """Add what is missing, and say what nobody but the operator can do: nothing says which slots are ours."""
    problems = []
    steps: list[Step] = []
    for entry in found.findings:
        if entry.state is KeyState.MISSING:
            steps += (MakeKey(case.desired.volume, entry.key), *_write(case, entry.key, entry.key.slot))
        elif not entry.works:
            problems.append(f"slot {entry.key.slot}: {entry.problem or _CANNOT_CHANGE}")
    if steps and (full := _no_room(case, encryption, found)) is not None:
        steps = []
        problems.append(full)
    dropped = {slot.number for slot in case.header.keyslots} - case.configured
    # What was noted before there were so many keys: a recovery key stays.
    dropped -= {note.slot for note in case.books.notes if note.purpose is not Purpose.CONFIG}
    removals: tuple[Step, ...] = ()
    if case.policy.prune:
        removals = tuple(RemoveKeyslot(case.desired.volume, case.device, slot) for slot in sorted(dropped))
    else:
        problems += [f"slot {slot}: {_CANNOT_REMOVE}" for slot in sorted(dropped)]
    proven = any(entry.state is KeyState.PROVEN for entry in found.findings)
    return SyncPlan((*_with_meta(steps, follow, proven=proven), *removals), tuple(problems))


def _no_room(case: _Case, encryption: VolumeEncryption, found: Inspection) -> str | None:
    """Say why the slots that are missing cannot be added; the library would find out in the middle of it."""
    # Not at the top: a boot in sync adds nothing, and its start is timed.
    from luksctl.model.json_budget import budget_of_sync  # noqa: PLC0415

    added = [entry for entry in found.findings if entry.state in (KeyState.MISSING, KeyState.LOST) and not entry.spare]
    missing = tuple(entry.key for entry in added if case.header.keyslot(entry.key.slot) is None)
    if case.desired.trial:  # then each changed key has a spare of its own, and all stay
        missing += tuple(entry.key for entry in found.findings if entry.state is KeyState.DIFFERS and not entry.spare)
    budget = budget_of_sync(case.header, case.books, encryption, missing, case.policy)
    if budget.fits:
        return None
    return (
        f"the header has room for {budget.capacity_bytes} bytes of JSON, and with these keys it may need "
        f"{budget.needed_bytes}: nothing was added (take keys out of the config first, or add fewer)"
    )


def _stuck(entry: KeyFinding) -> bool:
    return entry.state in (KeyState.BLOCKED, KeyState.UNTRIED, KeyState.UNAVAILABLE)


def _with_meta(steps: list[Step], follow: tuple[Step, ...], *, proven: bool) -> list[Step]:
    """Put META's step where a new key is proven and the old one still opens: at once, or behind each proof to come.

    Writing it once more writes nothing.
    """
    if not follow or proven:
        return [*follow, *steps]
    found: list[Step] = []
    for step in steps:
        found.append(step)
        if isinstance(step, ProveKey | TakeKey):
            found += follow
    return found if len(found) > len(steps) else [*steps, *follow]


def _follow_in_meta(
    desired: DesiredVolume, encryption: VolumeEncryption, found: Inspection, meta: MetaFacts
) -> tuple[Step, ...]:
    if not desired.follow_in_meta or meta.state_encryption == encryption:
        return ()
    if found.books is None and not any(entry.state is KeyState.PROVEN for entry in found.findings):
        return ()  # nothing will be added to a volume of others, and none of its keys is in the list
    return (WriteStateEncryption(STATE, encryption),)


def _put(
    case: _Case, entry: KeyFinding, opener: ConfiguredKey | None, spares: set[int]
) -> tuple[tuple[Step, ...], str | None]:
    """Return the steps that put a key into its slot, or why it cannot be done; `spares` are those that stay in use."""
    if entry.spare is not None:
        # On trial it stays there: its own slot holds the key that comes back.
        return () if case.desired.trial else _from_spare(case, entry.key, entry.spare), None
    asked = entry.key.slot in case.desired.rotate or (case.desired.booting and _is_due(case, entry))
    if entry.state is KeyState.LOST and not asked and (why := _not_by_itself(case, entry, opener)) is not None:
        return (), why
    if entry.state is KeyState.MISSING or case.header.keyslot(entry.key.slot) is None:
        return _add(case, entry.key), None
    if not (entry.works and asked) and entry.state not in (KeyState.DIFFERS, KeyState.LOST):
        return (), None
    spare = case.free_slot(spares)
    if spare is None:
        return (), "there is no free keyslot to change it through"
    if case.desired.trial:
        spares.add(spare)
    return _change(case, entry.key, spare), None


def _is_due(case: _Case, entry: KeyFinding) -> bool:
    """Tell whether a note of the bookkeeping is about this key, as it is found now.

    A lost key does not become a good one by being due: what somebody asked for was a key for the machine as it was
    then. Where it is in that very state, the note is their word, whoever opened the volume.
    """
    due = case.books.due_in(entry.key.slot)
    if due is None:
        return False
    return entry.works or (entry.vouching is not None and entry.vouching.policy == due.policy is not None)


def _waits_for_boot(case: _Case, entry: KeyFinding) -> bool:
    """Tell whether a lost key is left to the next boot, which is noted: this one is past making another."""
    late = entry.spare is None and entry.vouching is not None and entry.vouching.late
    asked = case.desired.booting or entry.key.slot in case.desired.rotate
    return late and not asked and _is_due(case, entry)


def _not_by_itself(case: _Case, entry: KeyFinding, opener: ConfiguredKey | None) -> str | None:
    """Say why a lost key is not sealed anew by itself, and how to do it; None where it is."""
    slot, volume = entry.key.slot, case.desired.volume
    if entry.key.kind is KeyKind.KMS:
        # A server that lies now must not cost a slot; whoever knows that it is another one now can say so.
        return f"{entry.problem}; left as it is (luksctl keys rotate {volume} --slot {slot})"
    why = objection(case.policy.tpm.reseal, case.desired.resealing, slot, entry.vouching or Vouching(), opener)
    if why is None:
        return None
    return f"{entry.problem}; not sealed anew: {why} (luksctl keys rotate {volume} --slot {slot})"


def _announce(case: _Case, key: ConfiguredKey, slot: int) -> AnnounceKeyslot:
    return AnnounceKeyslot(case.desired.volume, case.device, slot, key.slot, case.token)


def _write(case: _Case, key: ConfiguredKey, slot: int) -> tuple[Step, ...]:
    """Write the made key into `slot`, with its token, and prove it there."""
    volume, device = case.desired.volume, case.device
    serves = None if slot == key.slot else key.slot
    add = AddKeyslot(volume, device, slot, case.policy.kdf_for(key.kind), serves)
    token = (WriteToken(volume, device, slot, serves),) if key.kind in KINDS_WITH_TOKEN else ()
    return (add, *token, ProveKey(volume, device, key, slot=None if serves is None else slot))


def _add(case: _Case, key: ConfiguredKey) -> tuple[Step, ...]:
    volume, device = case.desired.volume, case.device
    return (
        MakeKey(volume, key),
        _announce(case, key, key.slot),
        *_write(case, key, key.slot),
        RecordKeyslots(volume, device, (key,), case.token, unfingerprinted=case.policy.unfingerprinted),
    )


def _change(case: _Case, key: ConfiguredKey, spare: int) -> tuple[Step, ...]:
    return (
        MakeKey(case.desired.volume, key),
        _announce(case, key, spare),
        *_write(case, key, spare),
        *(() if case.desired.trial else _move(case, key, spare)),
    )


def _from_spare(case: _Case, key: ConfiguredKey, spare: int) -> tuple[Step, ...]:
    """Go on with a change that was cut after its spare was written."""
    return (TakeKey(case.desired.volume, case.device, key, spare), *_move(case, key, spare))


def _move(case: _Case, key: ConfiguredKey, spare: int) -> tuple[Step, ...]:
    """Bring the proven key of the spare into its own slot.

    After a re-encryption nothing is noted of that slot. It is announced then, as any slot is that was not there before:
    cut before its token is written, it could not be told from a slot of somebody else.
    """
    volume, device = case.desired.volume, case.device
    old = (
        ()
        if case.header.keyslot(key.slot) is None
        else (RemoveKeyslot(volume, device, key.slot, needs=spare, key=key),)
    )
    announced = () if case.books.knows(key.slot) else (_announce(case, key, key.slot),)
    return (
        *old,
        *announced,
        *_write(case, key, key.slot),
        RemoveKeyslot(volume, device, spare, needs=key.slot, key=key),
        RecordKeyslots(volume, device, (key,), case.token, unfingerprinted=case.policy.unfingerprinted),
    )


def _remove_unwanted(case: _Case, found: Inspection) -> tuple[Step, ...]:
    """Remove slots of ours that the config dropped, spares that serve nobody, and, if asked to, slots of others.

    The spares of a key stay whose provider cannot say now, or whose number somebody else has taken: one of them may be
    the only slot that it opens.
    """
    volume, device, books = case.desired.volume, case.device, case.books
    present = {slot.number for slot in case.header.keyslots}
    kept = case.configured | {note.slot for note in books.notes if note.purpose is not Purpose.CONFIG}
    for entry in found.findings:
        if _stuck(entry) or (entry.state is KeyState.LOST and entry.key.kind is KeyKind.KMS):
            kept |= set(books.spares_of(entry.key.slot))
        elif entry.spare is not None:
            kept.add(entry.spare)  # removed once its key is in its own slot
    ours = {note.slot for note in books.notes} | {entry.slot for entry in books.underway}
    unwanted = ours - kept
    pruned = present - ours - kept if case.policy.prune else set()
    steps: list[Step] = [RemoveKeyslot(volume, device, slot) for slot in sorted((unwanted | pruned) & present)]
    if unwanted:
        steps.append(ForgetKeyslots(volume, device, tuple(sorted(unwanted)), case.token))
    return tuple(steps)
