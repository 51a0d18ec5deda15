"""The steps a plan is made of: frozen values that say what they destroy, each safe to repeat.

What is on disk when the power fails inside a step stands in its docstring; `simulate` says what is there after it.
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.hints import ClassVar
from luksctl.model.config import ConfiguredKey, Filesystem, KdfCost, VolumeEncryption
from luksctl.model.intent import FormatIntent
from luksctl.model.probe import Device
from luksctl.value import frozen


class Destroys(StrEnum):
    """What is gone for good after a step."""

    NOTHING = "nothing"
    KEYSLOT = "keyslot"
    DATA = "data"


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
class AddKeyslot:
    """Write the made key into its slot. Cut: the volume is still marked, so the next boot formats again."""

    volume: str
    device: Device
    slot: int
    kdf: KdfCost
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class WriteToken:
    """Write the token of a made key at the id of its slot; does nothing for keys without token. Cut: as AddKeyslot."""

    volume: str
    device: Device
    slot: int
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ProveKey:
    """Read the token back, get the key from its provider again, and open the slot with it. Writes nothing.

    A key that does not prove is a failed sync of its slot, unless it is `required`.
    """

    volume: str
    device: Device
    key: ConfiguredKey
    required: bool = False
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ProveAnyKey:
    """Prove one key of `encryption` on a volume that other keys opened. Writes nothing."""

    volume: str
    device: Device
    encryption: VolumeEncryption
    destroys: ClassVar[Destroys] = Destroys.NOTHING


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
    """Open with the first configured key that fits, as `mapped_name`. Writes nothing."""

    volume: str
    device: Device
    mapped_name: str
    encryption: VolumeEncryption
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
    | AddKeyslot
    | WriteToken
    | ProveKey
    | ProveAnyKey
    | WriteStateEncryption
    | RepairHeader
    | OpenVolume
    | MakeFilesystem
    | FinishVolume
    | ConcludeFormat
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
