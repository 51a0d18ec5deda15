"""The steps of what META announces from before the first byte: a reset, a new volume key, and work in place.

After each of them the intent still stands, but for the last one.

    reset    none of its steps looks at what a header says: ranges are worked out beforehand. Nothing is ever repaired
             or opened between them, so a copy of the header that is left when the power goes is only what the next run
             erases first.

    new key  announced ─▶ every key in a second keyslot, of the new volume key ─▶ started ─▶ running ─▶ old keyslots
             gone ─▶ keys back at their numbers (what a sync does with spares) ─▶ concluded
             Until it is started all can be taken back; from then on it only goes on. Where it stands, the header says.
"""

from __future__ import annotations

from luksctl.hints import ClassVar
from luksctl.model.config import VolumeEncryption
from luksctl.model.destroys import Destroys
from luksctl.model.intent import DecryptIntent, InPlaceIntent, ReencryptIntent, ResetIntent
from luksctl.model.probe import Device, Range
from luksctl.value import frozen

# ---- reset -----------------------------------------------------------------------------------------------------------


@frozen
class AnnounceReset:
    """Announce in META that the volume is being erased, in which attempt. Cut: the old intent or the new one."""

    volume: str
    intent: ResetIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class EraseHeader:
    """Write zeros over the ranges of each pass, sync after each, and read all of them back from the medium.

    Key areas come first, then the header copies; where the rest has to wait, all that lies around them. Nothing behind
    the header is touched, so it may be done below an open mapping. Cut: what is left of the header opens nothing, or
    the next run erases it.
    """

    volume: str
    device: Device
    passes: tuple[tuple[Range, ...], ...]
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class EraseEnds:
    """Write zeros over all that Blank asks about, sync, read it back, and see that no signature is left.

    Cut: some of it is zero; the next run does it again.
    """

    volume: str
    device: Device
    ranges: tuple[Range, ...]
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class Overwrite:
    """Write zeros over the whole device and read them back, from the position of the intent on, which is moved along.

    Cut: everything before the noted position is zero; the next run goes on there.
    """

    volume: str
    device: Device
    intent: ResetIntent
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class Discard:
    """Tell the device that nothing on it is needed; what then does not read as zeros at the ends is zeroed once more.

    Skipped where the device has no such command. Cut: as EraseEnds.
    """

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.DATA


@frozen
class ConcludeReset:
    """See that the device is Blank, then forget the volume: intent and expectations, in one META write.

    Cut: done again at the next boot.
    """

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.NOTHING


# ---- new volume key --------------------------------------------------------------------------------------------------


@frozen
class AnnounceReencryption:
    """Announce in META what is about to be done. Cut: as before, or announced, and the next run takes it back."""

    volume: str
    intent: ReencryptIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class AddNewKeyslots:
    """Write every key of this run into its second keyslot, with token and bookkeeping for the new volume key.

    Each is read back and opened. Cut: some of them are there, bound to no data; the next run takes them back.
    """

    volume: str
    device: Device
    intent: ReencryptIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class StartReencryption:
    """Write the plan into the header, after which keyslots and tokens are fixed. Cut: started or not.

    `mapped_name` is set where the volume is open.
    """

    volume: str
    device: Device
    intent: ReencryptIntent
    mapped_name: str | None
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class RunReencryption:
    """Re-encrypt to the end with any key of `intent`. Cut: a torn hot zone, which opening or running mends first."""

    volume: str
    device: Device
    intent: ReencryptIntent
    mapped_name: str | None
    destroys: ClassVar[Destroys] = Destroys.KEYSLOT


@frozen
class EndReencryption:
    """Write the header that ends it, where all data is done and a cut kept libcryptsetup from that.

    A key of the new volume key opened its keyslot before. Cut: as before, or ended.
    """

    volume: str
    device: Device
    intent: ReencryptIntent
    destroys: ClassVar[Destroys] = Destroys.KEYSLOT


@frozen
class TakeBackReencryption:
    """Remove the new keyslots and tokens of one that did not start: `slots` are those bound to no data.

    Cut: some are left; the next run goes on.
    """

    volume: str
    device: Device
    intent: ReencryptIntent
    slots: tuple[int, ...]
    destroys: ClassVar[Destroys] = Destroys.KEYSLOT


@frozen
class ConcludeReencryption:
    """Delete the intent, once nothing is left to do. Cut: done again by the next run."""

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.NOTHING


ReencryptStep = (
    AnnounceReencryption
    | AddNewKeyslots
    | StartReencryption
    | RunReencryption
    | EndReencryption
    | TakeBackReencryption
    | ConcludeReencryption
)


# ---- encryption in place: ---------------------------------------------------------------------------------------
#
# Before the header is placed, the filesystem is whole: at its own place, or, once its head is overwritten, with the
# head at the end of the device, where META says that it is. So whatever is cut is done again from the beginning.


@frozen
class CheckInPlace:
    """See that nobody uses the device, that its filesystem is sound, and that there will be room for a header.

    Where it has to be shrunk for that, there has to be a file `saved` to be written. Writes nothing.
    """

    volume: str
    device: Device
    saved: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class BuildHeader:
    """Make the header to come, without keyslots, in a file in memory: `scratch`. Cut: it is gone with the memory."""

    volume: str
    scratch: Device
    header_uuid: str
    encryption: VolumeEncryption
    talos_readable: bool
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class AnnounceInPlace:
    """Announce the encryption in place in META, in which attempt. Cut: the old intent or the new one."""

    volume: str
    intent: InPlaceIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class MakeRoom:
    """Replay the filesystem's journal, and shrink it where it reaches into the room for the header.

    What shrinking overwrites is saved to the file `saved` first, then it is announced. Cut: the filesystem as it was,
    or half shrunk: the next run takes that back, and begins anew.
    """

    volume: str
    device: Device
    intent: InPlaceIntent
    saved: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class MoveHead:
    """Begin the re-encryption in `scratch`: libcryptsetup copies the head of the device behind the filesystem.

    Both are compared on the medium; then META says where the copy is. Cut: the filesystem is whole where it was.
    """

    volume: str
    device: Device
    scratch: Device
    encryption: VolumeEncryption
    intent: InPlaceIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class PlaceHeader:
    """Write the header over the head of the device: key areas, then the second copy, then the first, each synced.

    Cut: no copy is whole, and the next run takes the head back; or one is, and the next run goes on with it.
    """

    volume: str
    device: Device
    scratch: Device
    header_uuid: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class RestoreHead:
    """Copy the head back from the end of the device, if what is there is what META says. Then META says so.

    Cut: done again by the next run.
    """

    volume: str
    device: Device
    intent: InPlaceIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class RestoreFilesystem:
    """Write back what a shrinking that was cut overwrote, if the file is what META says. Then META says so.

    Cut: done again by the next run.
    """

    volume: str
    device: Device
    intent: InPlaceIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ConcludePlacement:
    """Hand the volume over to re-encryption: one META write. Cut: done again by the next run."""

    volume: str
    device: Device
    header_uuid: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class AnnounceDecryption:
    """Announce the decryption in place in META, in which attempt. Cut: the old intent or the new one."""

    volume: str
    intent: DecryptIntent
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class DetachHeader:
    """Save the header to the file that `device` names, sync it, and read it back. Cut: the device is as it was."""

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class BeginDecryption:
    """Begin the decryption in the file: libcryptsetup copies the first of the data over the header on the device.

    Both are compared on the medium, and copied once more where a cut left them different. Cut: all data is where it
    was, and the file has the header.
    """

    volume: str
    device: Device
    encryption: VolumeEncryption
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ConcludeDetachment:
    """Hand the volume over to re-encryption: one META write. Cut: done again by the next run."""

    volume: str
    device: Device
    header_uuid: str
    destroys: ClassVar[Destroys] = Destroys.NOTHING


@frozen
class ConcludeDecryption:
    """Forget that the volume was encrypted, in one META write, then drop the file with its header. Cut: done again.

    A file that is left says nothing any more that opens anything.
    """

    volume: str
    device: Device
    destroys: ClassVar[Destroys] = Destroys.NOTHING


EncryptStep = (
    CheckInPlace
    | BuildHeader
    | AnnounceInPlace
    | MakeRoom
    | RestoreFilesystem
    | MoveHead
    | PlaceHeader
    | RestoreHead
    | ConcludePlacement
)
DecryptStep = AnnounceDecryption | DetachHeader | BeginDecryption | ConcludeDetachment | ConcludeDecryption
InPlaceStep = EncryptStep | DecryptStep
