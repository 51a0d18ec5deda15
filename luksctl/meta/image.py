"""The whole of META as one value: which copy serves, what the tags are, and what would mend it. Pure.

    0x000000   262144  copy A
    0x040000   262144  copy B
    0x080000   523264  unused, left as it is
    0x0FFC00     1024  legacy syslinux ADV

What is read here is judged by bytes alone; store.py does the reading and the writing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luksctl.errors import MetaError
from luksctl.hints import Final, assert_never
from luksctl.meta import adv, legacy_adv
from luksctl.model.config import META_SIZE_BYTES
from luksctl.model.meta import MetaState
from luksctl.secret import wipe
from luksctl.units import KIB
from luksctl.value import field, frozen, replace

REST_OFFSET: Final = 2 * adv.COPY_SIZE_BYTES
TAIL_OFFSET: Final = META_SIZE_BYTES - legacy_adv.TAIL_SIZE_BYTES
# The last region ends with the legacy ADV, and is as large as the sectors of any disk.
REGIONS: Final = (
    (adv.COPY_A_OFFSET, adv.COPY_SIZE_BYTES),
    (adv.COPY_B_OFFSET, adv.COPY_SIZE_BYTES),
    (META_SIZE_BYTES - 4 * KIB, 4 * KIB),
)
# Nobody keeps anything here; only META that was never written has to be zero here, too.
UNUSED_REGION: Final = (REST_OFFSET, META_SIZE_BYTES - 4 * KIB - REST_OFFSET)

# The smallest unit a disk writes whole.
_SECTOR_BYTES: Final = 512

Region = bytearray | None


@frozen
class Write:
    """Bytes that belong at an offset of META; each is synced and read back before the next."""

    offset_bytes: int
    data: bytes | bytearray = field(repr=False)

    def wipe(self) -> None:
        """Zero the bytes where they can be: tag 9 may hold a passphrase."""
        if isinstance(self.data, bytearray):
            wipe(self.data)


@frozen
class Image:
    """META as read once. `records` are the serving copy's, `serving` its bytes, `tail` the legacy ADV's 1024."""

    state: MetaState
    problem: str | None = None
    records: dict[int, bytes] = field(default_factory=dict, repr=False)
    serving: bytes | bytearray = field(default=b"", repr=False)
    tail: bytes | bytearray = field(default=b"", repr=False)

    def tags(self) -> dict[int, bytes]:
        """Return every tag, ascending: the Talos ADV's, and those that only the legacy ADV has."""
        return dict(sorted({**legacy_adv.decode(self.tail), **self.records}.items()))

    def with_note(self, note: str) -> Image:
        """Return the image with `note` added to its problem."""
        return replace(self, problem=f"{self.problem}; {note}" if self.problem else note)

    def wipe(self) -> None:
        """Zero the bytes of the serving copy; `records` are bytes objects, which nobody can wipe."""
        if isinstance(self.serving, bytearray):
            wipe(self.serving)

    def mending(self) -> tuple[Write, ...]:
        """Return the writes that make both copies equal and valid, in order; none when they are.

        Blank: two empty copies. MetaError when there is nothing to mend from.
        """
        match self.state:
            case MetaState.OK:
                return ()
            case MetaState.FIRST_ONLY | MetaState.DIFFER:
                return (Write(adv.COPY_B_OFFSET, self.serving),)
            case MetaState.SECOND_ONLY:
                return (Write(adv.COPY_A_OFFSET, self.serving),)
            case MetaState.BLANK:
                return _both(adv.encode({}))
            case MetaState.UNREADABLE | MetaState.ABSENT:
                raise MetaError(self.problem or "META cannot be read", volume="META")
        assert_never(self.state)

    def setting(self, tag: int, value: bytes | bytearray) -> tuple[Write, ...]:
        """Return the writes that give `tag` its value, once both copies are equal; none when it has it."""
        adv.check_tag(tag)
        if self.tags().get(tag) == value:
            return ()
        return _both(adv.encode({**self.records, tag: value}))

    def deleting(self, tag: int) -> tuple[Write, ...]:
        """Return the writes that take `tag` out of the legacy ADV and of both copies; none when it is nowhere.

        The legacy ADV comes first: after a cut the tag then still has the value it had, and never the older one that
        the legacy ADV kept below it.
        """
        writes: tuple[Write, ...] = ()
        if tag in legacy_adv.decode(self.tail):
            copy = legacy_adv.without_tag(self.tail, tag)
            writes = (Write(TAIL_OFFSET, copy), Write(TAIL_OFFSET + legacy_adv.COPY_SIZE_BYTES, copy))
        if tag in self.records:
            kept = {other: value for other, value in self.records.items() if other != tag}
            writes = (*writes, *_both(adv.encode(kept)))
        return writes


def starting_over(image: Image, records: Mapping[int, bytes]) -> tuple[Write, ...]:
    """Return the writes that leave nothing in META but `records`: zeros around the copies, then the copies.

    The copy that serves is the last to change.
    """
    copy = adv.encode(dict(records))
    copies = (Write(adv.COPY_A_OFFSET, copy), Write(adv.COPY_B_OFFSET, copy))
    if image.state in (MetaState.FIRST_ONLY, MetaState.DIFFER):
        copies = (copies[1], copies[0])
    return (Write(REST_OFFSET, bytes(META_SIZE_BYTES - REST_OFFSET)), *copies)


def read_image(first: Region, second: Region, last: Region, unused: Callable[[], Region]) -> Image:
    """Return what META says by its REGIONS, each None where the medium gave a read error.

    `unused` reads UNUSED_REGION, which is asked for only where neither copy is valid. Only `Image.serving` is kept of
    the two copies; the other is zeroed here.
    """
    image = _judge(first, second, last, unused)
    for copy in (first, second):
        if copy is not None and copy is not image.serving:
            wipe(copy)
    return image


def _judge(first: Region, second: Region, last: Region, unused: Callable[[], Region]) -> Image:
    tail = bytearray() if last is None else last[-legacy_adv.TAIL_SIZE_BYTES :]
    records_a, problem_a = _read_copy("A", first)
    if records_a is not None and first is not None and first == second:
        return Image(MetaState.OK, None, records_a, first, tail)
    records_b, problem_b = _read_copy("B", second)
    if records_a is not None and first is not None:
        if records_b is None:
            return Image(MetaState.FIRST_ONLY, f"{problem_b}; copy A serves", records_a, first, tail)
        return Image(MetaState.DIFFER, "both copies are valid and differ; copy A serves", records_a, first, tail)
    if records_b is not None and second is not None:
        return Image(MetaState.SECOND_ONLY, f"{problem_a}; copy B serves", records_b, second, tail)
    if first is not None and second is not None and last is not None and _blank(first, second, last, unused):
        return Image(MetaState.BLANK, tail=tail)
    return Image(MetaState.UNREADABLE, f"neither copy of META is valid: {problem_a}; {problem_b}", tail=tail)


def _both(copy: bytearray) -> tuple[Write, ...]:
    return (Write(adv.COPY_A_OFFSET, copy), Write(adv.COPY_B_OFFSET, copy))


def _read_copy(name: str, copy: Region) -> tuple[dict[int, bytes] | None, str]:
    if copy is None:
        return None, f"copy {name}: the medium gives a read error"
    try:
        return adv.decode(copy), ""
    except MetaError as error:
        return None, f"copy {name}: {error.cause}"


def _blank(first: bytearray, second: bytearray, last: bytearray, unused: Callable[[], Region]) -> bool:
    """Tell whether META was never written, or only a part of the first empty copy was.

    An empty copy has two sectors that are not zero, the first and the last. A power cut while it is written onto zeros
    leaves one of them without the other, which nothing else does; so the very first write is safe, too.
    """
    middle, tail = last[: -legacy_adv.TAIL_SIZE_BYTES], last[-legacy_adv.TAIL_SIZE_BYTES :]
    empty = adv.encode({})
    if not all(_blank_copy(copy, empty) for copy in (first, second)):
        return False
    if not (_zero(middle) and (_zero(tail) or legacy_adv.verifies(tail))):
        return False
    between = unused()
    return between is not None and _zero(between)


def _blank_copy(copy: bytearray, empty: bytearray) -> bool:
    head, body, foot = copy[:_SECTOR_BYTES], copy[_SECTOR_BYTES:-_SECTOR_BYTES], copy[-_SECTOR_BYTES:]
    return (
        (_zero(head) or head == empty[:_SECTOR_BYTES])
        and _zero(body)
        and (_zero(foot) or foot == empty[-_SECTOR_BYTES:])
    )


def _zero(data: bytearray) -> bool:
    return data.count(0) == len(data)
