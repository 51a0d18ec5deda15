"""What is on a device, as one of eleven answers; `plan` must treat each of them.

Missing     no device answers to the volume
Ambiguous   several do; refused until settings name one
Blank       nothing at all: the only state that is formatted without being named by the operator
Filesystem  a plain filesystem that libblkid knows
Unfinished  our own first format was interrupted: the intent names this partition and header, and nothing else is there
Erasing     META announces a reset of this device that has not ended; whatever is left on it counts for nothing
Encrypting  META announces that its plain filesystem is encrypted in place, and that the header is not placed yet
Decrypting  META announces that its data is decrypted in place, and that its header is not detached yet
Luks2       a LUKS2 volume with at least one valid header copy
Foreign     something else (LUKS1, other data, a pattern nobody knows)
Damaged     LUKS2 in a state that no rule of ours may touch; `reason` says which
"""

from __future__ import annotations

from enum import StrEnum

from luksctl.model.header import Copies, HeaderCopies, LuksHeader
from luksctl.model.intent import DecryptIntent, FormatIntent, InPlaceIntent, ReencryptIntent, ResetIntent
from luksctl.model.probe import Device, Signature
from luksctl.value import frozen


@frozen
class Mapping:
    """An active /dev/mapper device; `backing` is the path of the device below it, `signature` what is inside.

    `problem` says why that cannot be read.
    """

    name: str
    path: str
    backing: str
    signature: Signature | None = None
    problem: str = ""


@frozen
class Missing:
    """No device answers to the volume; `sought` says what was looked for."""

    sought: str


@frozen
class Ambiguous:
    """Several devices answer to the volume's label."""

    candidates: tuple[str, ...]
    reason: str


@frozen
class Blank:
    """No signature, no LUKS magic at any legal offset, zeros at both ends."""

    device: Device


@frozen
class FilesystemFound:
    """A plain filesystem."""

    device: Device
    signature: Signature


@frozen
class Unfinished:
    """Our interrupted first format. `header` is the marked header where one is valid already.

    `mapping` is what a previous attempt of this boot left open; it is closed first.
    """

    device: Device
    intent: FormatIntent
    header: LuksHeader | None
    mapping: Mapping | None = None


@frozen
class Erasing:
    """Our announced reset. `copies` only say what to erase: nothing is repaired from them, and nothing opened.

    `mapping` is what stands on the device under our name; `holder` is who uses that, or the device itself.
    """

    device: Device
    intent: ResetIntent
    copies: HeaderCopies
    mapping: Mapping | None = None
    holder: str | None = None


class ReencryptStage(StrEnum):
    """Where an announced re-encryption stands, by what the header says: nothing that could be wrong is noted."""

    PREPARING = "preparing"  # nothing is re-encrypted; new keyslots are there, bound to no data
    RUNNING = "running"  # part of the data may have the new volume key; it opens by passphrase only
    SETTLING = "settling"  # nothing left to re-encrypt, or to take back; keys may not be back at their numbers


@frozen
class Encrypting:
    """Our announced encryption in place, before its header counts: the filesystem is never mounted as it is.

    `copies` hold the header as far as it is placed. `holder` is who uses the device.
    """

    device: Device
    intent: InPlaceIntent
    copies: HeaderCopies
    holder: str | None = None

    @property
    def placed(self) -> LuksHeader | None:
        """Return the announced header where both copies of it are whole: the first is the last thing that is written.

        Beside the second copy alone there may be the head of the filesystem, which libcryptsetup mends no header over.
        """
        header = self.copies.best
        whole = self.copies.state is Copies.EQUAL and header is not None and header.uuid == self.intent.header_uuid
        return header if whole else None


@frozen
class Decrypting:
    """Our announced decryption in place, before its header counts no more. `device` names the file of the header.

    `copies` are those on the device, `detached` those in the file. `holder` is who uses the device.
    """

    device: Device
    intent: DecryptIntent
    copies: HeaderCopies
    detached: HeaderCopies
    holder: str | None = None

    @property
    def saved(self) -> bool:
        """Tell whether the header is in the file, so that the one on the device may be gone, as may its key areas.

        The file came to its name as a whole: where its copies differ, libcryptsetup was cut as it wrote one.
        """
        header = self.detached.best
        return header is not None and header.uuid == self.intent.header_uuid


@frozen
class Luks2:
    """A LUKS2 volume; `mapping` is set when it is open under our name with this device below.

    `reencryption` is set while META announces that this very header gets a new volume key.
    """

    device: Device
    copies: HeaderCopies
    header: LuksHeader
    mapping: Mapping | None = None
    format_intent: FormatIntent | None = None
    reencryption: ReencryptIntent | None = None

    @property
    def copies_equal(self) -> bool:
        """Tell whether both copies are valid and say the same."""
        return self.copies.state is Copies.EQUAL

    @property
    def reencrypt_stage(self) -> ReencryptStage | None:
        """Return where the announced re-encryption stands, None where none is announced."""
        if self.reencryption is None:
            return None
        if self.header.reencrypting:
            return ReencryptStage.RUNNING
        present = [slot.new for slot in self.reencryption.moved if self.header.keyslot(slot.new) is not None]
        if all(self.header.bound(number) for number in present):
            return ReencryptStage.SETTLING
        return ReencryptStage.PREPARING


@frozen
class Foreign:
    """Something that is not ours and not blank."""

    device: Device
    what: str


@frozen
class Damaged:
    """LUKS2 that no rule of ours may touch."""

    device: Device
    reason: str


Observed = (
    Missing
    | Ambiguous
    | Blank
    | FilesystemFound
    | Unfinished
    | Erasing
    | Encrypting
    | Decrypting
    | Luks2
    | Foreign
    | Damaged
)
