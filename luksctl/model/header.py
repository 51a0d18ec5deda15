"""LUKS2 headers as facts: what each copy on the medium says, before libcryptsetup is asked to touch anything."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from luksctl.hints import Final
from luksctl.value import frozen

# Legal places of the second header copy: its offset is also the size of the first (LUKS2 specification 1.1, 2.1).
SECONDARY_OFFSETS: Final = tuple(0x4000 << shift for shift in range(9))

# Types of the tokens that hold what recovers a slot's key, at the id of the slot, as Talos writes them.
PROVIDER_TOKEN_TYPES: Final = frozenset({"sideroKMS", "talos-tpm2"})

# LUKS2 subsystem of a volume whose first format has not finished; taken out of both copies by the last step.
UNFINISHED_MARK: Final = "luksctl-unfinished"

# What libcryptsetup 2.4 and newer write while they re-encrypt: both volume keys vouch for such metadata by a digest.
REENCRYPT_REQUIREMENT: Final = "online-reencrypt-v2"


@frozen
class Keyslot:
    """One keyslot as its JSON describes it; KDF fields are None where the KDF has no such cost."""

    number: int
    kdf: str
    time: int | None
    memory_kib: int | None
    threads: int | None
    iterations: int | None
    area_encryption: str
    priority: int = 1
    type: str = "luks2"


@frozen
class Token:
    """One token: its id, type, the keyslots it names, and its JSON text as stored."""

    number: int
    type: str
    keyslots: tuple[int, ...]
    json: str


@frozen
class Segment:
    """One data segment: `encryption` is the cipher, `flags` names such as "backup-final"."""

    number: int
    type: str
    encryption: str
    sector_size_bytes: int
    offset_bytes: int
    flags: tuple[str, ...] = ()


@frozen
class LuksHeader:
    """One checked LUKS2 header: binary part and JSON area, both parsed."""

    uuid: str
    label: str
    subsystem: str
    seqid: int
    header_size_bytes: int
    keyslots: tuple[Keyslot, ...]
    tokens: tuple[Token, ...]
    segments: tuple[Segment, ...]
    digest_iterations: int
    requirements: tuple[str, ...]
    flags: tuple[str, ...]
    json: str

    def keyslot(self, number: int) -> Keyslot | None:
        """Return the keyslot `number`, or None if it is not in use."""
        return next((slot for slot in self.keyslots if slot.number == number), None)

    def token(self, number: int) -> Token | None:
        """Return the token `number`, or None."""
        return next((token for token in self.tokens if token.number == number), None)

    def bound(self, number: int) -> bool:
        """Tell whether keyslot `number` opens a volume key that data is encrypted with; False for what is not there."""
        return any(str(number) in slots and segments for slots, segments in self._digests())

    def _digests(self) -> Iterator[tuple[list[str], list[str]]]:
        """Yield keyslots and segments of each digest, as the JSON names them; none where it makes no sense."""
        import json  # noqa: PLC0415  # looking for devices needs none

        try:
            found = [(digest["keyslots"], digest["segments"]) for digest in json.loads(self.json)["digests"].values()]
        except (ValueError, LookupError, TypeError, AttributeError):
            return
        yield from ((slots, segments) for slots, segments in found if isinstance(slots, list))

    @property
    def unfinished_mark(self) -> bool:
        """Tell whether the header carries our mark of an unfinished first format."""
        return self.subsystem == UNFINISHED_MARK

    @property
    def reencrypting(self) -> bool:
        """Tell whether a re-encryption is under way (requirement flag, second segment or its keyslot)."""
        return (
            any("reencrypt" in requirement for requirement in self.requirements)
            or any(slot.type == "reencrypt" for slot in self.keyslots)
            or len(self.segments) > 1
        )


@frozen
class HeaderCopy:
    """One of the two copies: the parsed header, or why it is not valid (`problem`)."""

    offset_bytes: int
    header: LuksHeader | None
    problem: str | None = None

    @property
    def valid(self) -> bool:
        """Tell whether magic, size, offset, checksum and JSON are all in order."""
        return self.header is not None


class Copies(StrEnum):
    """How the two copies of a header agree."""

    NONE = "none"  # no LUKS magic anywhere
    EQUAL = "equal"  # both valid, same sequence id, same JSON and binary fields
    DIFFER = "differ"  # both valid, but one is older
    FIRST_ONLY = "first only"  # the second is damaged or missing
    SECOND_ONLY = "second only"  # the first is damaged or missing
    DAMAGED = "damaged"  # a LUKS2 magic is there, and no copy is valid
    LUKS1 = "luks1"  # version 1 at offset 0


@frozen
class HeaderCopies:
    """Both copies as read from the medium. `first` is None where no LUKS magic is at its place, so is `second`."""

    state: Copies
    first: HeaderCopy | None = None
    second: HeaderCopy | None = None

    @property
    def best(self) -> LuksHeader | None:
        """Return the valid header with the higher sequence id, or None."""
        valid = [copy.header for copy in (self.first, self.second) if copy is not None and copy.header is not None]
        return max(valid, key=lambda header: header.seqid, default=None)
