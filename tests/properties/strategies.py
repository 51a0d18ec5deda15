"""Hypothesis strategies for what plan sees: observations, META, wishes; and situations in which they fit together."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import strategies as st

from luksctl.model.config import (
    EPHEMERAL,
    MAX_SLOT,
    STATE,
    ConfiguredKey,
    EncryptionPolicy,
    Filesystem,
    FormatRequires,
    KmsKey,
    NodeIdKey,
    StaticKey,
    TpmKey,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import UNFINISHED_MARK, Copies, HeaderCopies, HeaderCopy, Keyslot, LuksHeader, Segment
from luksctl.model.intent import MAX_ATTEMPTS, EraseMethod, FormatIntent, FormatPhase, ResetIntent
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    Erasing,
    FilesystemFound,
    Foreign,
    Luks2,
    Mapping,
    Missing,
    Observed,
    Unfinished,
)
from luksctl.model.probe import Device, Signature
from luksctl.model.simulate import World
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace

FRESH_UUID = "00000000-0000-4000-8000-00000000f4e5"
OUR_UUID = "00000000-0000-4000-8000-0000000000a1"
OTHER_UUID = "00000000-0000-4000-8000-0000000000b2"
WRITABLE_META = (MetaState.BLANK, MetaState.OK, MetaState.FIRST_ONLY, MetaState.SECOND_ONLY, MetaState.DIFFER)

# Shared, because each Secret is a mapping of its own and the examples are many.
_PASSPHRASES = tuple(Secret.take(text) for text in (b"one", b"two", b"three"))

_SOURCES = st.one_of(
    st.sampled_from([StaticKey(passphrase) for passphrase in _PASSPHRASES]),
    st.just(NodeIdKey()),
    st.just(KmsKey("kms.example:4050")),
    st.sampled_from([TpmKey(), TpmKey((7, 11))]),
)


@dataclass(frozen=True, slots=True)
class Situation:
    """A wish and the world it meets."""

    desired: DesiredVolume
    world: World


@st.composite
def encryptions(draw: st.DrawFn) -> VolumeEncryption:
    """Draw an encryption block with one to five keys of any kind."""
    slots = draw(st.lists(st.integers(0, MAX_SLOT), min_size=1, max_size=5, unique=True))
    keys = tuple(ConfiguredKey(slot, draw(_SOURCES)) for slot in sorted(slots))
    return VolumeEncryption(keys, allow_discards=draw(st.sampled_from([None, True])))


policies = st.builds(
    EncryptionPolicy,
    format_requires=st.sampled_from(FormatRequires),
    talos_readable=st.booleans(),
    filesystems=st.sampled_from([(), ((STATE, Filesystem.EXT4), (EPHEMERAL, Filesystem.EXT4))]),
)
volumes = st.sampled_from([STATE, EPHEMERAL])
devices = st.builds(
    Device,
    path=st.just("/dev/sda3"),
    size_bytes=st.sampled_from([100 * MIB, 4096 * MIB]),
    partuuid=st.sampled_from(["", "11111111-1111-4111-8111-111111111111"]),
)
refusals = st.sampled_from([None, None, "the node is locked"])


@st.composite
def wishes(draw: st.DrawFn, volume: str, *, may_format: bool = False) -> DesiredVolume:
    """Draw a wish for `volume`; with `may_format`, formatting is never refused by it."""
    encryption = draw(st.none() | encryptions())
    refusal = None if may_format else draw(refusals)
    return DesiredVolume(volume, encryption, draw(policies), refusal, volume == STATE and draw(st.booleans()))


@st.composite
def intents(draw: st.DrawFn, volume: str, partition: str, *, max_attempt: int = MAX_ATTEMPTS) -> FormatIntent:
    """Draw an intent for `volume` on `partition`, at most at `max_attempt`."""
    return FormatIntent(
        volume,
        partition,
        OUR_UUID,
        draw(st.integers(1, max_attempt)),
        draw(st.sampled_from(FormatPhase)),
        draw(st.sampled_from(["", "mkfs.xfs ended with status 1"])),
    )


@st.composite
def headers(draw: st.DrawFn, *, uuid: str = OUR_UUID, marked: bool = False, keyslots: int = 1) -> LuksHeader:
    """Draw a header with at least `keyslots` keyslots and no requirement."""
    numbers = draw(st.lists(st.integers(0, MAX_SLOT), min_size=keyslots, max_size=4, unique=True))
    return LuksHeader(
        uuid=uuid,
        label="",
        subsystem=UNFINISHED_MARK if marked else "",
        seqid=draw(st.integers(3, 50)),
        header_size_bytes=0x4000,
        keyslots=tuple(Keyslot(number, "argon2id", 4, 32, 1, None, "aes-xts-plain64") for number in sorted(numbers)),
        tokens=(),
        segments=(Segment(0, "crypt", "aes-xts-plain64", 4096, 16 * MIB),),
        digest_iterations=1000,
        requirements=(),
        flags=(),
        json="{}",
    )


def copies_of(header: LuksHeader, state: Copies) -> HeaderCopies:
    """Return both copies of `header` in `state`, which is one where a valid copy is left."""
    place = header.header_size_bytes
    first, second = HeaderCopy(0, header), HeaderCopy(place, header)
    match state:
        case Copies.FIRST_ONLY:
            second = HeaderCopy(place, None, "checksum")
        case Copies.SECOND_ONLY:
            first = HeaderCopy(0, None, "checksum")
        case Copies.DIFFER:
            second = HeaderCopy(place, replace(header, seqid=header.seqid - 1))
        case _:
            pass
    return HeaderCopies(state, first, second)


def mappings(device: Device, volume: str) -> st.SearchStrategy[Mapping | None]:
    """Draw no mapping, or one of `device` with a filesystem inside."""
    name = f"luks2-{volume}"
    inside = Signature("xfs", volume, usage="filesystem")
    return st.sampled_from([None, Mapping(name, f"/dev/mapper/{name}", device.path, inside)])


@st.composite
def finished(draw: st.DrawFn, device: Device, volume: str, intent: FormatIntent | None) -> Luks2:
    """Draw a finished LUKS2 volume whose header copies may disagree."""
    header = draw(headers())
    states = st.sampled_from([Copies.EQUAL, Copies.DIFFER, Copies.FIRST_ONLY, Copies.SECOND_ONLY])
    copies = copies_of(header, draw(states))
    return Luks2(device, copies, header, draw(mappings(device, volume)), format_intent=intent)


def untouchable(device: Device, volume: str) -> st.SearchStrategy[Observed]:
    """Draw an observation that no rule permits to change."""
    return st.sampled_from(
        [
            Missing("partition STATE"),
            Ambiguous(("/dev/sda3", "/dev/sdb3"), "two partitions"),
            Foreign(device, "a LUKS1 volume"),
            Damaged(device, "no valid LUKS2 header copy"),
            Erasing(device, ResetIntent(volume, device.identity), HeaderCopies(Copies.NONE), holder="a mount"),
        ]
    )


@st.composite
def metas(draw: st.DrawFn, record: NodeRecord, states: tuple[MetaState, ...] = tuple(MetaState)) -> MetaFacts:
    """Draw META in one of `states` around `record`; nothing is in it where it cannot be read."""
    state = draw(st.sampled_from(states))
    if state in {MetaState.ABSENT, MetaState.UNREADABLE} or (state is MetaState.BLANK and record == NodeRecord()):
        return MetaFacts(state)
    state = MetaState.OK if state is MetaState.BLANK else state
    wanted = draw(st.none() | encryptions())
    return MetaFacts(state, wanted, has_tag9=wanted is not None or draw(st.booleans()), record=record)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw any observation, META and wish whose volume, device and intent fit together."""
    volume, device = draw(volumes), draw(devices)
    intent = draw(intents(volume, device.partuuid or device.path))
    announced = NodeRecord((intent,), draw(_partitions(volume, device)), draw(st.sampled_from([(), (volume,)])))
    silent = replace(announced, intents=())
    plain = FilesystemFound(device, Signature(draw(st.sampled_from(["xfs", "ext4", "ntfs"])), usage="filesystem"))
    unfinished = Unfinished(device, intent, draw(st.none() | headers(marked=True)), draw(mappings(device, volume)))
    empty_or_plain: list[Observed] = [Blank(device), plain]
    found: tuple[Observed, NodeRecord] = draw(
        st.one_of(
            st.tuples(untouchable(device, volume), st.sampled_from([announced, silent])),
            st.tuples(st.sampled_from(empty_or_plain), st.just(silent)),
            st.tuples(finished(device, volume, None), st.just(silent)),
            st.tuples(finished(device, volume, intent), st.just(announced)),
            st.tuples(st.just(unfinished), st.just(announced)),
        )
    )
    observed, record = found
    meta = draw(metas(record))
    if isinstance(observed, Luks2) and not meta.record.intents:
        observed = replace(observed, format_intent=None)
    return Situation(draw(wishes(volume)), World(observed, meta))


def _partitions(volume: str, device: Device) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.sampled_from([(), ((volume, device.partuuid or device.path),)])


@st.composite
def formattable(draw: st.DrawFn) -> Situation:
    """Draw a blank device or an unfinished format at its first attempt; META can be written, the wish may format."""
    volume, device = draw(volumes), draw(devices)
    desired = draw(wishes(volume, may_format=True))
    intent = draw(intents(volume, device.partuuid or device.path, max_attempt=1))
    header = draw(st.none() | headers(marked=True, keyslots=0))
    mapping = draw(mappings(device, volume)) if header is not None and header.keyslots else None
    unfinished = Unfinished(device, intent, header, mapping)
    choices: list[tuple[Observed, NodeRecord]] = [
        (Blank(device), NodeRecord()),
        (unfinished, NodeRecord((intent,))),
    ]
    observed, record = draw(st.sampled_from(choices))
    facts = draw(metas(record, WRITABLE_META))
    if desired.encryption is None:
        # A plain STATE where META says encrypted is refused; that is another property.
        facts = replace(facts, state_encryption=None)
    return Situation(desired, World(observed, facts))


# Two key areas of the usual layout, as a header's JSON names them.
_AREAS = json.dumps(
    {
        "keyslots": {
            str(number): {"area": {"offset": str(0x8000 + number * 258048), "size": "258048"}} for number in range(2)
        },
        "config": {"keyslots_size": "16744448"},
    }
)


@st.composite
def resets(draw: st.DrawFn) -> Situation:
    """Draw a volume in any state whose reset was just announced, in use or not, and any wish for it."""
    volume, device = draw(volumes), draw(devices)
    header = replace(draw(headers(marked=draw(st.booleans()), keyslots=0)), json=_AREAS)
    states = [Copies.EQUAL, Copies.DIFFER, Copies.FIRST_ONLY, Copies.SECOND_ONLY]
    left = [copies_of(header, state) for state in states]
    copies = draw(
        st.sampled_from([*left, *(HeaderCopies(state) for state in (Copies.NONE, Copies.DAMAGED, Copies.LUKS1))])
    )
    mapping = draw(mappings(device, volume))
    holder = draw(st.sampled_from([None, "the mount of it at /somewhere"]))
    intent = ResetIntent(
        volume, device.identity, draw(st.sampled_from(EraseMethod)), head_bytes=draw(_HEADS), was=OUR_UUID
    )
    record = NodeRecord((intent,), draw(_partitions(volume, device)), draw(st.sampled_from([(), (STATE, EPHEMERAL)])))
    facts = draw(metas(record, WRITABLE_META))
    return Situation(draw(wishes(volume)), World(Erasing(device, intent, copies, mapping, holder), facts))


_HEADS = st.sampled_from([0, 16 * MIB, 40 * MIB])
