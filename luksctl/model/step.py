"""The steps a plan is made of: frozen values that say what they destroy, each safe to repeat.

What is on disk when the power fails inside a step stands in its docstring; `simulate` says what is there after it.
"""

from __future__ import annotations

from luksctl.hints import ClassVar
from luksctl.model.announced_step import (
    AddNewKeyslots,
    AnnounceReencryption,
    AnnounceReset,
    ConcludeReencryption,
    ConcludeReset,
    Discard,
    EndReencryption,
    EraseEnds,
    EraseHeader,
    InPlaceStep,
    Overwrite,
    RunReencryption,
    StartReencryption,
    TakeBackReencryption,
)
from luksctl.model.config import ConfiguredKey, Filesystem, KdfCost, VolumeEncryption
from luksctl.model.destroys import Destroys
from luksctl.model.intent import FormatIntent
from luksctl.model.probe import Device
from luksctl.model.sealing import Due
from luksctl.value import frozen


@frozen
class RepairMeta:
    """Rewrite the torn or older META copy from the valid one. Cut: the valid copy is untouched."""

    volume: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class MakeKey:
    """Have the provider make the key of a slot (and its token), and give it back by that token. Nothing on disk.

    A key that cannot be made or given back is a failed sync of its slot, unless it is `required`; one key at least
    must be made.
    """

    volume: str
    key: ConfiguredKey
    required: bool = False
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class WriteIntent:
    """Announce a format in META. Cut: META still says what it said, or the new intent; the device is as before."""

    volume: str
    intent: FormatIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class CloseVolume:
    """Take down the mapping a previous attempt left open. Nothing on disk."""

    volume: str
    mapped_name: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class EraseHead:
    """Zero the head of a plain volume whose format was interrupted, so that no torn header survives below it.

    Cut: the intent still stands, and the next boot starts again.
    """

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class FormatVolume:
    """Write a marked LUKS2 header without keyslots.

    Cut: zeros, random bytes, or one or two marked copies; the intent tells them from foreign data, and the next boot
    formats again.
    """

    volume: str
    device: Device
    header_uuid: str
    encryption: VolumeEncryption
    talos_readable: bool
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class AnnounceKeyslot:
    """Note in the header that the key of slot `serves` is about to be put into the free `slot`.

    Cut: as before, or announced. An announced slot is ours, so it never stays behind as an orphan. `token` is the id
    of the bookkeeping token.
    """

    volume: str
    device: Device
    slot: int
    serves: int
    token: int
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class AddKeyslot:
    """Write the key made for `serves` (None: for `slot` itself) into the free `slot`.

    Cut: the slot is not there, or there and whole. It is announced, or the volume is still marked and is formatted
    again.
    """

    volume: str
    device: Device
    slot: int
    kdf: KdfCost
    serves: int | None = None
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class WriteToken:
    """Write the token of the key made for `serves` (None: `slot`) at the id `slot`; nothing for keys without token.

    Cut: as AddKeyslot; a slot without its token proves nothing, and the next run removes it.
    """

    volume: str
    device: Device
    slot: int
    serves: int | None = None
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ProveKey:
    """Read the token back, get the key from its provider again, and open the slot with it. Writes nothing.

    `slot` is the spare to open instead of the key's own. A key that does not prove is a failed sync of its slot,
    unless it is `required`.
    """

    volume: str
    device: Device
    key: ConfiguredKey
    required: bool = False
    slot: int | None = None
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class TakeKey:
    """Get the key that an interrupted change left in the spare `slot` from its provider, and open the spare with it.

    Writes nothing.
    """

    volume: str
    device: Device
    key: ConfiguredKey
    slot: int
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ProveAnyKey:
    """Prove one key of `encryption`, or else of `fallback`, on a volume that is open already, and keep its volume key.

    Writes nothing.
    """

    volume: str
    device: Device
    encryption: VolumeEncryption
    fallback: tuple[VolumeEncryption, ...] = ()
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class RecordKeyslots:
    """Note the keyslots of `keys` as ours, with their fingerprints, as far as they were proven in this run.

    `recovery` notes them as recovery keys, which stay without being in the config. Kinds in `unfingerprinted` are noted
    without a fingerprint of the key. Cut: the old bookkeeping or the new one; without a note, the next run tries a
    configured slot once and notes it then, and removes a recovery key.
    """

    volume: str
    device: Device
    keys: tuple[ConfiguredKey, ...]
    token: int
    recovery: bool = False
    unfingerprinted: tuple[str, ...] = ()
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class RemoveKeyslot:
    """Destroy a keyslot and its token, if another slot was proven in this run.

    With `needs` it must be that one, proven with `key`; without, any. Refused where the slot was changed by somebody
    else since it was looked at; skipped while META describes keys that may be the last. Cut: the slot is still listed
    and its key area partly overwritten; it is ours or pruned, so the next run removes it.
    """

    volume: str
    device: Device
    slot: int
    needs: int | None = None
    key: ConfiguredKey | None = None
    destroys: ClassVar[Destroys] = Destroys.KEYSLOT


@frozen
class ForgetKeyslots:
    """Take notes and announcements of slots that are gone out of the bookkeeping, and tokens that a cut left of them.

    Cut: done by the next run.
    """

    volume: str
    device: Device
    slots: tuple[int, ...]
    token: int
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class DisownKeyslot:
    """Note in the header that a slot of ours is wanted no more, before it is removed.

    Cut: as before, or the next run removes the slot: one whose removal was cut short is never taken for a good one.
    """

    volume: str
    device: Device
    slot: int
    token: int
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class StageRotation:
    """Note in the header which slots get new keys at the next boot, which can still make them; this one cannot.

    Cut: as before, or noted. The keys that are there go on opening until then.
    """

    volume: str
    device: Device
    due: tuple[Due, ...]
    token: int
    destroys: ClassVar[Destroys] = Destroys.NOTHING

    @property
    def slots(self) -> tuple[int, ...]:
        """Return the numbers of the slots."""
        return tuple(entry.slot for entry in self.due)


@frozen
class WriteStateEncryption:
    """Make META's tag 9 describe `encryption` (None deletes it). Needs a key of it proven in this run.

    Cut: the old or the new list; both open STATE.
    """

    volume: str
    encryption: VolumeEncryption | None
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class RepairHeader:
    """Make the damaged or older header copy equal to the valid, newer one. Cut: the valid copy is untouched."""

    volume: str
    device: Device
    header_uuid: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class OpenVolume:
    """Open with the first configured key that fits, else with one of `fallback`, as `mapped_name`. Writes nothing."""

    volume: str
    device: Device
    mapped_name: str
    encryption: VolumeEncryption
    fallback: tuple[VolumeEncryption, ...] = ()
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class MakeFilesystem:
    """Make the filesystem on `target` (the mapping, or the device of a plain volume) and sync it.

    `uuid` is set for a plain volume: it is how the next boot knows a torn filesystem as ours. Cut: a torn filesystem
    below an intent; the next boot starts the format again.
    """

    volume: str
    target: str
    filesystem: Filesystem
    uuid: str | None
    size_bytes: int
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class FinishVolume:
    """Take the mark out of both header copies. Cut: one copy without mark is the newer and counts as finished."""

    volume: str
    device: Device
    header_uuid: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ConcludeFormat:
    """Delete the intent and record partition and encryption, in one META write. Cut: done again at the next boot."""

    volume: str
    partition: str
    encrypted: bool
    destroys: ClassVar[Destroys] = Destroys.NOTHING


Step = (
    RepairMeta
    | MakeKey
    | WriteIntent
    | CloseVolume
    | EraseHead
    | FormatVolume
    | AnnounceKeyslot
    | AddKeyslot
    | WriteToken
    | ProveKey
    | TakeKey
    | ProveAnyKey
    | RecordKeyslots
    | RemoveKeyslot
    | ForgetKeyslots
    | DisownKeyslot
    | StageRotation
    | WriteStateEncryption
    | RepairHeader
    | OpenVolume
    | MakeFilesystem
    | FinishVolume
    | ConcludeFormat
    | AnnounceReset
    | EraseHeader
    | EraseEnds
    | Overwrite
    | Discard
    | ConcludeReset
    | InPlaceStep
    | AnnounceReencryption
    | AddNewKeyslots
    | StartReencryption
    | RunReencryption
    | EndReencryption
    | TakeBackReencryption
    | ConcludeReencryption
)


@frozen
class Done:
    """One step was taken, or skipped for the reason in `skipped`; `detail` adds what only doing it could tell.

    `slot` is the keyslot that opened or was proven, where the step was about keys.
    """

    step: Step
    detail: str = ""
    slot: int | None = None
    skipped: str | None = None
