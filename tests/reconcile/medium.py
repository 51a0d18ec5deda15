"""A disk and a META without bytes: only what a reader would find, and a power supply that can be cut at any write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from luksctl.errors import MetaError
from luksctl.model.config import VolumeEncryption
from luksctl.model.header import Copies, HeaderCopies, HeaderCopy, LuksHeader
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.probe import Signature
from luksctl.value import replace


class PowerCut(BaseException):
    """The power went; no code of ours runs after it."""


@dataclass
class Power:
    """Counts writes to all media, and goes at the `cut_at`-th of them (from 1): that write never happens."""

    cut_at: int | None = None
    writes: list[str] = field(default_factory=list)

    def write(self, what: str) -> None:
        """Note a write that is about to happen."""
        self.writes.append(what)
        if self.cut_at is not None and len(self.writes) >= self.cut_at:
            raise PowerCut(what)


class Torn:
    """A copy of which only a part was written."""


TORN: Final = Torn()


@dataclass(frozen=True)
class Area:
    """What a keyslot's key area holds: the volume key, for whoever has the key."""

    key: bytes
    volume_key: bytes


@dataclass
class Medium:
    """One partition. `inside` is what each volume key would show of the data area."""

    power: Power
    first: LuksHeader | Torn | None = None
    second: LuksHeader | Torn | None = None
    noise: bool = False
    luks1: bool = False
    filesystem: Signature | None = None
    digest_key: bytes = b""
    areas: dict[int, Area] = field(default_factory=dict)
    inside: dict[bytes, Signature] = field(default_factory=dict)

    def copies(self) -> HeaderCopies:
        """Return both header copies, as reading the medium would show them."""
        if self.luks1:
            return HeaderCopies(Copies.LUKS1, HeaderCopy(0, None, "LUKS version 1"))
        first, second = _copy(0, self.first), _copy(0x4000, self.second)
        return HeaderCopies(self._state(), first, second)

    def _state(self) -> Copies:
        match (self.first, self.second):
            case (LuksHeader(), LuksHeader()):
                return Copies.EQUAL if self.first == self.second else Copies.DIFFER
            case (LuksHeader(), _):
                return Copies.FIRST_ONLY
            case (_, LuksHeader()):
                return Copies.SECOND_ONLY
            case (None, None):
                return Copies.NONE
            case _:
                return Copies.DAMAGED

    def signature(self) -> Signature | None:
        """Return what libblkid would say: one signature, or that several contradict each other."""
        header = next((copy for copy in (self.first, self.second) if isinstance(copy, LuksHeader)), None)
        if header is not None and self.filesystem is not None:
            return Signature("", ambivalent=True)
        if header is not None:
            return Signature("crypto_LUKS", uuid=header.uuid, usage="crypto")
        return self.filesystem

    def is_zero(self) -> bool:
        """Tell whether nothing was ever written, or all of it erased."""
        nothing = self.first is None and self.second is None and self.filesystem is None
        return nothing and not self.noise and not self.luks1

    def format(self, header: LuksHeader, volume_key: bytes) -> None:
        """Write a header as crypt_format does: zeros, random bytes, copy 1, copy 2."""
        self.erase()
        self.power.write("format: random bytes")
        self.noise = True
        self.digest_key = volume_key
        self._put_both(header)

    def erase(self) -> None:
        """Zero the head from the front, so that for a while only copy 2 is there."""
        self.power.write("erase: copy 1")
        self.first, self.filesystem, self.luks1 = None, None, False
        self.power.write("erase: the rest")
        self.second, self.noise, self.areas, self.digest_key = None, False, {}, b""

    def change(self, header: LuksHeader) -> None:
        """Replace the header in both copies, one after the other."""
        self._put_both(header)

    def mend(self, header: LuksHeader) -> None:
        """Write `header` over the copy that is not like it, as loading does; the other one is not touched."""
        if self.first != header:
            self._put_first(header)
        if self.second != header:
            self._put_second(header)

    def _put_both(self, header: LuksHeader) -> None:
        self._put_first(header)
        self._put_second(header)

    def _put_first(self, header: LuksHeader) -> None:
        self.power.write("copy 1 begins")
        self.first = TORN
        self.power.write("copy 1 ends")
        self.first = header

    def _put_second(self, header: LuksHeader) -> None:
        self.power.write("copy 2 begins")
        self.second = TORN
        self.power.write("copy 2 ends")
        self.second = header

    def put_key(self, slot: int, key: bytes, volume_key: bytes) -> None:
        """Write a key area."""
        self.power.write(f"key area {slot}")
        self.areas[slot] = Area(key, volume_key)

    def wipe_key(self, slot: int) -> None:
        """Overwrite a key area, as destroying a keyslot does before the header changes."""
        self.power.write(f"key area {slot} wiped")
        self.areas.pop(slot, None)


def _copy(offset_bytes: int, content: LuksHeader | Torn | None) -> HeaderCopy | None:
    match content:
        case None:
            return None
        case Torn():
            return HeaderCopy(offset_bytes, None, "the checksum does not match")
        case LuksHeader():
            return HeaderCopy(offset_bytes, content)


@dataclass(frozen=True)
class MetaContent:
    """What one copy of META says; `tag9_problem` where its tag 9 cannot be parsed."""

    encryption: VolumeEncryption | None = None
    has_tag9: bool = False
    tag9_problem: str | None = None
    record: NodeRecord = field(default_factory=NodeRecord)
    uuid_override: str | None = None


@dataclass
class MetaMedium:
    """Both copies of META; None is a copy never written. Writes mend first, then go to A, then to B.

    `failing_second_writes`: so many writes of copy B fail from now on.
    """

    power: Power
    first: MetaContent | Torn | None = None
    second: MetaContent | Torn | None = None
    absent: bool = False
    failing_second_writes: int = 0

    def facts(self) -> MetaFacts:
        """Return META as a reader finds it."""
        state = self.state()
        content = self.serving()
        if content is None:
            problem = None if state is MetaState.BLANK else f"META is {state}"
            return MetaFacts(state, problem=problem)
        return MetaFacts(
            state, content.encryption, content.has_tag9, content.tag9_problem, content.uuid_override, content.record
        )

    def state(self) -> MetaState:
        """Return how the copies are."""
        if self.absent:
            return MetaState.ABSENT
        match (self.first, self.second):
            case (MetaContent(), MetaContent()):
                return MetaState.OK if self.first == self.second else MetaState.DIFFER
            case (MetaContent(), _):
                return MetaState.FIRST_ONLY
            case (_, MetaContent()):
                return MetaState.SECOND_ONLY
            case (Torn(), None) | (None, None):
                # The very first write was cut: nothing was ever said.
                return MetaState.BLANK
            case _:
                return MetaState.UNREADABLE

    def serving(self) -> MetaContent | None:
        """Return the copy that counts."""
        if isinstance(self.first, MetaContent):
            return self.first
        return self.second if isinstance(self.second, MetaContent) else None

    def mend(self) -> None:
        """Make both copies equal to the one that counts."""
        content = self.serving()
        if content is not None and self.first != content:
            self._put_first(content)
        if content is not None and self.second != content:
            self._put_second(content)

    def put(self, content: MetaContent) -> None:
        """Mend, then write A, then B; a content that is there already is not written."""
        self.mend()
        if content != self.serving():
            self._put_first(content)
            self._put_second(content)

    def set_both(self, content: MetaContent) -> None:
        """Set the stage of a test: no write, no cut."""
        self.first = self.second = content

    def set_record(self, record: NodeRecord) -> None:
        """Set the stage of a test: the record in both copies."""
        self.set_both(replace(self.serving() or MetaContent(), record=record))

    def _put_first(self, content: MetaContent) -> None:
        self.power.write("META A begins")
        self.first = TORN
        self.power.write("META A ends")
        self.first = content

    def _put_second(self, content: MetaContent) -> None:
        if self.failing_second_writes > 0:
            self.failing_second_writes -= 1
            raise MetaError("I/O error while writing copy B")
        self.power.write("META B begins")
        self.second = TORN
        self.power.write("META B ends")
        self.second = content
