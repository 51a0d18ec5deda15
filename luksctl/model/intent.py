"""Announcements of work that no single header write can make atomic; kept in META, synced before the first byte."""

from __future__ import annotations

from enum import StrEnum

from luksctl.hints import Final
from luksctl.model.probe import Range
from luksctl.value import frozen

MAX_ATTEMPTS: Final = 3


class FormatPhase(StrEnum):
    """Which part of a first format was under way when the intent was last written."""

    HEADER = "header"  # LUKS2 header, keyslots and tokens
    FILESYSTEM = "filesystem"  # mkfs
    FINISH = "finish"  # taking the mark out of both header copies


@frozen
class FormatIntent:
    """We are formatting `volume`: the partition (GPT UUID or image path) and the header UUID chosen by us.

    `header_uuid` is also the UUID of the filesystem, where the volume is plain. `attempt` counts from 1; after
    MAX_ATTEMPTS the volume is left alone until `luksctl retry`, which sets it to 0. `last_error` is what stopped an
    earlier attempt, if it got to say so.
    """

    volume: str
    partition: str
    header_uuid: str
    attempt: int = 1
    phase: FormatPhase = FormatPhase.HEADER
    last_error: str = ""


class EraseMethod(StrEnum):
    """How much of a volume is overwritten by its reset."""

    FAST = "fast"  # key areas, header copies and both ends; then discarded, where the device can
    ZEROES = "zeroes"  # and every byte in between, read back


@frozen
class ResetIntent:
    """We are erasing `volume`: what META says from before the first byte is zero until nothing of it is left.

    `head_bytes` is how far headers and key areas reached when it was announced, `was` the UUID of what was there then.
    Everything before `position_bytes` is zero and was read back. `attempt` counts the runs that began; as for a format,
    MAX_ATTEMPTS of them may fail.
    """

    volume: str
    partition: str
    method: EraseMethod = EraseMethod.FAST
    attempt: int = 0
    head_bytes: int = 0
    position_bytes: int = 0
    was: str = ""
    last_error: str = ""


class Resilience(StrEnum):
    """What makes a torn hot zone of a re-encryption recoverable, as libcryptsetup names it."""

    CHECKSUM = "checksum"
    JOURNAL = "journal"


class ReencryptKind(StrEnum):
    """What becomes of the data."""

    RENEW = "renew"  # it gets another volume key
    ENCRYPT = "encrypt"  # it was plain; each part of it moves towards the end
    DECRYPT = "decrypt"  # it will be plain; each part of it moves back, and the header is in a file meanwhile


class SlotRole(StrEnum):
    """Why a keyslot is carried over to the new volume key."""

    CONFIG = "config"  # goes back to its number once it is done
    RECOVERY = "recovery"  # stays at its new number, and is noted there
    UNMANAGED = "unmanaged"  # stays at its new number, and is nobody's of ours


@frozen
class MovedSlot:
    """The key of keyslot `old` opens the new volume key by keyslot `new`."""

    new: int
    old: int
    role: SlotRole = SlotRole.CONFIG


@frozen
class ReencryptIntent:
    """We are giving `volume` a new volume key: in META from before the first new keyslot until all is as before.

    How far it is stands in the header (`reencrypt_stage`). `token` is the id of the bookkeeping for the new volume
    key. With `hotzone_bytes` 0 libcryptsetup chooses, with `max_rate_bytes_s` 0 it goes as fast as it can.
    `kind` says what else than that it may be: then no keyslot moves. `header` is the file of a detached header.
    """

    volume: str
    partition: str
    header_uuid: str
    cipher: str
    moved: tuple[MovedSlot, ...] = ()
    token: int = 0
    sector_size_bytes: int = 512
    resilience: Resilience = Resilience.CHECKSUM
    hotzone_bytes: int = 0
    max_rate_bytes_s: int = 0
    attempt: int = 0
    last_error: str = ""
    kind: ReencryptKind = ReencryptKind.RENEW
    header: str = ""


class InPlacePhase(StrEnum):
    """How far the encryption in place of a plain volume came: what a reader finds at its head."""

    PREPARING = "preparing"  # the filesystem, whole
    SHRINKING = "shrinking"  # the filesystem, perhaps half shrunk; what that overwrites, in a file on another volume
    PLACING = "placing"  # the filesystem or parts of a header; the same head, whole, at the end of the device


@frozen
class InPlaceIntent:
    """We are encrypting what is on `volume` in place: from before its first byte changes until its header is placed.

    `header_uuid` is that of the header to come. `moved` says where the copy of the head is, in PLACING, or will be, in
    SHRINKING: it ends with the device. `head_sha256` is what the head is, in PLACING. `saved` is the file with what
    shrinking overwrites, and `saved_sha256` what is in it, in SHRINKING. `attempt` counts the runs that began; as for a
    format, MAX_ATTEMPTS of them may fail.
    """

    volume: str
    partition: str
    header_uuid: str
    attempt: int = 0
    phase: InPlacePhase = InPlacePhase.PREPARING
    moved: Range | None = None
    head_sha256: str = ""
    last_error: str = ""
    saved: str = ""
    saved_sha256: str = ""

    @property
    def taken_back(self) -> InPlaceIntent:
        """Return the intent of a volume whose filesystem is whole where it was."""
        return InPlaceIntent(self.volume, self.partition, self.header_uuid, self.attempt, last_error=self.last_error)


@frozen
class DecryptIntent:
    """We begin to decrypt `volume` in place: from before its header is overwritten until its data stands there.

    `header` is the file that its header was saved to, or will be: whole before anything else is written. From then on
    it is the header. `attempt` is as for InPlaceIntent; once a run `begun`, that stays so, whatever is counted anew.
    """

    volume: str
    partition: str
    header_uuid: str
    header: str
    attempt: int = 0
    last_error: str = ""
    begun: bool = False


Intent = FormatIntent | ResetIntent | ReencryptIntent | InPlaceIntent | DecryptIntent
