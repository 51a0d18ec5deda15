"""Steps in words: for the table of plan, for JSON, and for the line that tells that one was taken."""

from __future__ import annotations

from luksctl.hints import Final, assert_never
from luksctl.model.announced_step import (
    AddNewKeyslots,
    AnnounceDecryption,
    AnnounceInPlace,
    AnnounceReencryption,
    AnnounceReset,
    BeginDecryption,
    BuildHeader,
    CheckInPlace,
    ConcludeDecryption,
    ConcludeDetachment,
    ConcludePlacement,
    ConcludeReencryption,
    ConcludeReset,
    DecryptStep,
    DetachHeader,
    Discard,
    EncryptStep,
    EndReencryption,
    EraseEnds,
    EraseHeader,
    InPlaceStep,
    MakeRoom,
    MoveHead,
    Overwrite,
    PlaceHeader,
    ReencryptStep,
    RestoreFilesystem,
    RestoreHead,
    RunReencryption,
    StartReencryption,
    TakeBackReencryption,
)
from luksctl.model.config import DEFAULT_CIPHER, KdfCost
from luksctl.model.destroys import Destroys
from luksctl.model.intent import FormatPhase
from luksctl.model.step import (
    AddKeyslot,
    AnnounceKeyslot,
    CloseVolume,
    ConcludeFormat,
    DisownKeyslot,
    Done,
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
from luksctl.units import KIB, format_size

PHASES: Final = {
    FormatPhase.HEADER: "making the header",
    FormatPhase.FILESYSTEM: "making the filesystem",
    FormatPhase.FINISH: "finishing the header",
}


def slot_of(step: Step) -> int | None:
    """Return the keyslot that the step is about, or None."""
    match step:
        case MakeKey():
            return step.key.slot
        case ProveKey():
            return step.key.slot if step.slot is None else step.slot
        case AddKeyslot() | AnnounceKeyslot() | WriteToken() | TakeKey() | RemoveKeyslot() | DisownKeyslot():
            return step.slot
        case _:
            return None


def _place(slot: int, serves: int | None) -> str:
    return "into its slot" if serves is None else f"for slot {serves} into spare slot {slot}"


def described(step: Step) -> str:  # noqa: C901, PLR0911, PLR0912  # one sentence per step, nothing else
    """Return what the step does, in words."""
    if isinstance(step, InPlaceStep):
        return _in_place(step)
    match step:
        case RepairMeta():
            return "rewrite the bad or older copy of META from the valid one"
        case MakeKey(_, key, required):
            return f"make the {key.kind} key" + (", which must succeed" if required else "")
        case WriteIntent(_, intent):
            return f"announce in META: attempt {intent.attempt}, {PHASES[intent.phase]}"
        case CloseVolume(_, mapped_name):
            return f"close /dev/mapper/{mapped_name}, left open by an earlier attempt"
        case EraseHead(_, device):
            return f"write zeros over the head of {device.path}"
        case FormatVolume(_, device, _, encryption, _):
            return f"write a LUKS2 header on {device.path}, {encryption.cipher or DEFAULT_CIPHER}"
        case AnnounceKeyslot(_, _, slot, serves):
            return f"note in the header that slot {slot} will hold the key for slot {serves}"
        case AddKeyslot(_, _, slot, kdf, serves):
            return f"write the key {_place(slot, serves)}, {kdf_text(kdf)}"
        case WriteToken():
            return "write the token of the key, where it has one"
        case ProveKey(_, _, key, _, slot):
            where = "the slot" if slot is None else f"spare slot {slot}"
            return f"open {where} with the {key.kind} key, fetched again"
        case TakeKey(_, _, key, slot):
            return f"open spare slot {slot} with the {key.kind} key that an interrupted change left there"
        case RecordKeyslots(_, _, keys, _, recovery):
            what = "recovery keys in slots" if recovery else "slots"
            return f"note in the header, with fingerprints: {what} {', '.join(str(key.slot) for key in keys)}"
        case RemoveKeyslot(_, _, slot, needs):
            condition = "another slot was proven" if needs is None else f"slot {needs} was proven"
            return f"destroy slot {slot}, if {condition}"
        case ForgetKeyslots(_, _, slots):
            return f"take the notes about slots {', '.join(map(str, slots))} out of the header"
        case DisownKeyslot(_, _, slot):
            return f"note in the header that slot {slot} is wanted no more"
        case StageRotation():
            return f"note in the header that the next boot makes new keys for slots {', '.join(map(str, step.slots))}"
        case ProveAnyKey(_, device, _):
            return f"open one slot of {device.path} with a configured key"
        case WriteStateEncryption(_, encryption):
            return "delete the keys of STATE from META" if encryption is None else "write the keys of STATE to META"
        case RepairHeader(_, device, _):
            return f"make both header copies of {device.path} equal to the valid, newer one"
        case OpenVolume(_, device, mapped_name):
            return f"open {device.path} as /dev/mapper/{mapped_name}"
        case MakeFilesystem(_, target, filesystem, _, _):
            return f"make {filesystem} on {target}"
        case FinishVolume():
            return "take the mark of an unfinished format out of both header copies"
        case ConcludeFormat():
            return "record the partition in META and take the announcement back"
        case AnnounceReset() | EraseHeader() | EraseEnds() | Overwrite() | Discard() | ConcludeReset():
            return _of_reset(step)
        case _:
            return _of_reencryption(step)


def _in_place(step: InPlaceStep) -> str:
    return _of_decryption(step) if isinstance(step, DecryptStep) else _of_encryption(step)


def _of_decryption(step: DecryptStep) -> str:
    match step:
        case AnnounceDecryption(_, intent):
            return f"announce in META that it is decrypted in place: attempt {intent.attempt}"
        case DetachHeader(_, device):
            return f"save the header of {device.path} to {device.header}"
        case BeginDecryption(_, device, _):
            return f"begin it in {device.header}, and copy the first of the data over the header on {device.path}"
        case ConcludeDetachment():
            return "hand the volume over to re-encryption, in META"
        case ConcludeDecryption(_, device):
            return f"take the volume out of META as an encrypted one, and remove {device.header}"
    assert_never(step)


def _of_encryption(step: EncryptStep) -> str:  # noqa: PLR0911  # one sentence per step
    match step:
        case CheckInPlace(_, device, _):
            return f"see that the filesystem of {device.path} is sound and leaves room for a header"
        case BuildHeader():
            return "make the header in memory"
        case AnnounceInPlace(_, intent):
            return f"announce in META that it is encrypted in place: attempt {intent.attempt}"
        case MakeRoom(_, device, _, _):
            return f"shrink the filesystem of {device.path}, if it reaches too far"
        case MoveHead(_, device, _, _, _):
            return f"copy the head of {device.path} to its end, compare both, and note it in META"
        case PlaceHeader(_, device, _, _):
            return f"write the header over the head of {device.path}: key areas, then one copy, then the other"
        case RestoreFilesystem(_, device, intent):
            return f"take back the shrinking of the filesystem of {device.path}, by {intent.saved}"
        case RestoreHead(_, device, _):
            return f"take the head of {device.path} back from its end"
        case ConcludePlacement():
            return "hand the volume over to re-encryption, in META"
    assert_never(step)


def _of_reset(step: AnnounceReset | EraseHeader | EraseEnds | Overwrite | Discard | ConcludeReset) -> str:
    match step:
        case AnnounceReset(_, intent):
            return f"announce in META that it is being erased: attempt {intent.attempt}"
        case EraseHeader(_, device, _):
            return f"write zeros over the key areas of {device.path}, then over both header copies, and read them back"
        case EraseEnds(_, device, ranges):
            size = format_size(sum(part.size_bytes for part in ranges))
            return f"write zeros over both ends of {device.path}, {size}, and read them back"
        case Overwrite(_, device, intent):
            begun = f" from {format_size(intent.position_bytes)} on" if intent.position_bytes else ""
            return f"overwrite {device.path} with zeros{begun}, {format_size(device.size_bytes)} in all"
        case Discard(_, device):
            return f"discard all blocks of {device.path}"
        case ConcludeReset():
            return "see that it is blank, and take it out of META"
    assert_never(step)


def _of_reencryption(step: ReencryptStep) -> str:  # noqa: PLR0911  # one sentence per step
    match step:
        case AnnounceReencryption(_, intent):
            return f"announce in META that header {intent.header_uuid} gets a new volume key"
        case AddNewKeyslots(_, device, intent):
            slots = ", ".join(str(slot.new) for slot in intent.moved)
            return f"write every key into a second keyslot of {device.path} ({slots}), for the new volume key"
        case StartReencryption(_, device):
            return f"write the plan of the re-encryption into the header of {device.path}"
        case RunReencryption(_, device, intent):
            return f"re-encrypt {device.path} with a new volume key, {intent.cipher}, {intent.resilience}"
        case EndReencryption(_, device):
            return f"write the header of {device.path} that ends the re-encryption, of which all data is done"
        case TakeBackReencryption(_, _, _, slots):
            named = ", ".join(map(str, slots)) or "none is left"
            return f"remove the keyslots of a re-encryption that did not start ({named})"
        case ConcludeReencryption():
            return "take the announcement of the re-encryption back"
    assert_never(step)


def kdf_text(kdf: KdfCost) -> str:
    """Return the cost of a keyslot in words."""
    return f"argon2id, {kdf.time} x {format_size(kdf.memory_kib * KIB)}, {kdf.threads} thread(s)"


def step_fields(step: Step) -> dict[str, object]:
    """Return the step as plain values for JSON."""
    return {
        "volume": step.volume,
        "step": type(step).__name__,
        "slot": slot_of(step),
        "destroys": step.destroys.value,
        "what": described(step),
    }


def told(done: Done) -> str:
    """Return one line about a step that was taken or skipped."""
    slot = done.slot if done.slot is not None else slot_of(done.step)
    place = done.step.volume if slot is None else f"{done.step.volume}, slot {slot}"
    if done.skipped is not None:
        return f"{place}: {type(done.step).__name__} skipped: {done.skipped}"
    mark = " [destroys data]" if done.step.destroys is Destroys.DATA else ""
    detail = f" ({done.detail})" if done.detail else ""
    return f"{place}: {described(done.step)}{detail}{mark}"
