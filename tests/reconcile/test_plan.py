"""What is planned for each observation and wish: the steps by name, or the refusal with its reason and next command."""

from __future__ import annotations

import pytest

from luksctl.errors import (
    AmbiguousDevice,
    AttemptsExhausted,
    DeviceMissing,
    LuksctlError,
    MetaError,
    NeedsReboot,
    NotBlank,
    Refused,
)
from luksctl.model.config import (
    CHEAPEST_KDF,
    EPHEMERAL,
    STATE,
    EncryptionPolicy,
    Filesystem,
    FormatRequires,
    KdfCost,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import Copies, HeaderCopies
from luksctl.model.intent import FormatPhase, ResetIntent
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
from luksctl.model.plan import Plan
from luksctl.model.probe import Signature
from luksctl.model.step import AddKeyslot, FormatVolume, MakeFilesystem, MakeKey, ProveKey, WriteIntent
from luksctl.reconcile.plan import PLAIN_TAIL_BYTES, plan
from luksctl.units import MIB
from luksctl.value import replace
from tests.properties.strategies import copies_of
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.samples import INTENT, MAPPING, header, marked
from tests.reconcile.world import DEVICE, PARTUUID, wish

FRESH = "00000000-0000-4000-8000-00000000f4e5"
KEYS = encrypted(static(0), kms(3))
RESET = ResetIntent(STATE, PARTUUID)
OPEN = replace(MAPPING, signature=Signature("xfs", usage="filesystem"))
PLAIN = FilesystemFound(DEVICE, Signature("xfs", usage="filesystem"))
OK = MetaFacts(MetaState.OK)
OURS = NodeRecord(partitions=((STATE, PARTUUID),), encrypted=(STATE,))
TAIL = ["WriteIntent", "MakeFilesystem", "WriteIntent", "FinishVolume", "ConcludeFormat"]
FORMAT_STATE = [
    *["MakeKey"] * 2,
    "WriteIntent",
    "FormatVolume",
    *["AddKeyslot", "ProveKey"],  # a static key has no token
    *["AddKeyslot", "WriteToken", "ProveKey"],
    "RecordKeyslots",
    "WriteStateEncryption",
    "OpenVolume",
    *TAIL,
]


def luks(state: Copies = Copies.EQUAL, mapping: Mapping | None = None, *, intent: bool = False) -> Luks2:
    """Return a finished LUKS2 volume."""
    return Luks2(DEVICE, copies_of(header(), state), header(), mapping, INTENT if intent else None)


def planned(desired: DesiredVolume, observed: Observed, meta: MetaFacts = OK) -> Plan:
    """Plan with a recognisable UUID."""
    return plan(desired, observed, meta, fresh_uuid=FRESH)


def names(desired: DesiredVolume, observed: Observed, meta: MetaFacts = OK) -> list[str]:
    """Return the names of the steps; fails on a refusal."""
    made = planned(desired, observed, meta)
    assert made.refusal is None, made.refusal
    return [type(step).__name__ for step in made.steps]


def refusal(desired: DesiredVolume, observed: Observed, meta: MetaFacts = OK) -> LuksctlError:
    """Return why nothing is planned; fails where something is."""
    made = planned(desired, observed, meta)
    assert made.refusal is not None
    return made.refusal


def following(desired: DesiredVolume) -> DesiredVolume:
    """Return the wish as STATE's own config makes it."""
    return replace(desired, follow_in_meta=True)


def test_a_blank_state_is_formatted_step_by_step() -> None:
    """Keys first, then the announcement, header, slots each proven, META, filesystem, finish, conclusion."""
    assert names(wish(KEYS), Blank(DEVICE)) == FORMAT_STATE


def test_a_blank_ephemeral_writes_no_tag_9() -> None:
    """Only STATE's keys belong in META."""
    expected = [name for name in FORMAT_STATE if name != "WriteStateEncryption"]
    assert names(wish(KEYS, EPHEMERAL), Blank(DEVICE)) == expected


def test_a_format_names_partition_uuid_and_policy() -> None:
    """The intent names the GPT UUID and the fresh header UUID; slots get the KDF cost of their kind."""
    policy = EncryptionPolicy(kdf=KdfCost(5, 4096, 2), format_requires=FormatRequires.ALL, talos_readable=False)
    steps = planned(wish(KEYS, policy=policy), Blank(DEVICE)).steps
    first = next(step for step in steps if isinstance(step, WriteIntent))
    assert (first.intent.partition, first.intent.header_uuid, first.intent.attempt) == (PARTUUID, FRESH, 1)
    phases = [step.intent.phase for step in steps if isinstance(step, WriteIntent)]
    assert phases == [FormatPhase.HEADER, FormatPhase.FILESYSTEM, FormatPhase.FINISH]
    assert [step.kdf for step in steps if isinstance(step, AddKeyslot)] == [policy.kdf, CHEAPEST_KDF]
    assert [step.talos_readable for step in steps if isinstance(step, FormatVolume)] == [False]
    assert all(step.required for step in steps if isinstance(step, MakeKey | ProveKey))


def test_a_blank_plain_volume_gets_a_filesystem() -> None:
    """A plain volume is announced, made and concluded; EPHEMERAL keeps its tail free, STATE does not."""
    expected = ["WriteIntent", "MakeFilesystem", "ConcludeFormat"]
    for volume, tail_bytes in ((STATE, 0), (EPHEMERAL, PLAIN_TAIL_BYTES)):
        policy = EncryptionPolicy(filesystems=((volume, Filesystem.EXT4),))
        desired = wish(None, volume, policy)
        assert names(desired, Blank(DEVICE)) == expected
        made = planned(desired, Blank(DEVICE)).steps[1]
        assert made == MakeFilesystem(volume, DEVICE.path, Filesystem.EXT4, FRESH, DEVICE.size_bytes - tail_bytes)


def test_an_ephemeral_no_larger_than_its_tail_is_refused() -> None:
    """A size of zero would mean the whole device, so there is none."""
    tiny = replace(DEVICE, size_bytes=PLAIN_TAIL_BYTES)
    assert "too small" in str(refusal(wish(None, EPHEMERAL), Blank(tiny)))


def test_a_blank_plain_state_forgets_a_null_tag_9() -> None:
    """Tag 9 that says null goes with the format, or the next look would not be content."""
    facts = MetaFacts(MetaState.OK, has_tag9=True)
    assert names(wish(None), Blank(DEVICE), facts) == [
        "WriteIntent",
        "MakeFilesystem",
        "WriteStateEncryption",
        "ConcludeFormat",
    ]


@pytest.mark.parametrize("observed", [Blank(DEVICE), PLAIN], ids=["blank", "filesystem"])
@pytest.mark.parametrize(
    "facts",
    [
        MetaFacts(MetaState.OK, KEYS, has_tag9=True),
        MetaFacts(MetaState.OK, has_tag9=True, tag9_problem="a provider nobody knows"),
    ],
    ids=["tag 9", "tag 9 that cannot be parsed"],
)
def test_a_plain_state_where_tag_9_expects_encryption_is_refused(observed: Observed, facts: MetaFacts) -> None:
    """A tag 9 that says encrypted, or may say so, forbids a plain STATE: neither made nor mounted."""
    assert isinstance(refusal(following(wish(None)), observed, facts), Refused)


def test_a_format_without_keys_is_refused() -> None:
    """A header that no key would open is not written."""
    assert "no key" in str(refusal(wish(encrypted()), Blank(DEVICE)))


@pytest.mark.parametrize("state", [MetaState.ABSENT, MetaState.UNREADABLE])
@pytest.mark.parametrize("observed", [Blank(DEVICE), Unfinished(DEVICE, INTENT, None)], ids=["blank", "unfinished"])
@pytest.mark.parametrize("encryption", [KEYS, None], ids=["encrypted", "plain"])
def test_nothing_is_formatted_without_a_meta(state: MetaState, observed: Observed, encryption: object) -> None:
    """A format that cannot be announced does not begin."""
    desired = wish(KEYS if encryption is not None else None)
    assert isinstance(refusal(desired, observed, MetaFacts(state)), MetaError)


@pytest.mark.parametrize("observed", [Blank(DEVICE), Unfinished(DEVICE, INTENT, None)], ids=["blank", "unfinished"])
def test_nothing_is_formatted_against_the_wish(observed: Observed) -> None:
    """The reason why nothing may be formatted is in the refusal."""
    assert "the node is locked" in str(refusal(wish(KEYS, refusal="the node is locked"), observed))


def test_an_unfinished_format_starts_again_under_its_uuid() -> None:
    """The next attempt has the next number, the same header UUID, and starts with the header."""
    again = replace(INTENT, phase=FormatPhase.FINISH, last_error="mkfs.xfs ended with status 1")
    found = Unfinished(DEVICE, again, marked())
    assert names(wish(KEYS), found) == FORMAT_STATE
    first = next(step for step in planned(wish(KEYS), found).steps if isinstance(step, WriteIntent))
    assert (first.intent.attempt, first.intent.phase) == (2, FormatPhase.HEADER)
    assert first.intent.header_uuid == INTENT.header_uuid


@pytest.mark.parametrize("encryption", [KEYS, None], ids=["encrypted", "plain"])
def test_a_leftover_mapping_is_closed_before_anything_is_destroyed(encryption: object) -> None:
    """Whatever is wanted now, the mapping of the last attempt goes first."""
    steps = names(wish(KEYS if encryption is not None else None), Unfinished(DEVICE, INTENT, marked(), MAPPING))
    destroying = "FormatVolume" if encryption is not None else "EraseHead"
    assert steps.index("WriteIntent") < steps.index("CloseVolume") < steps.index(destroying)


def test_a_torn_plain_format_erases_the_head_first() -> None:
    """No header of an earlier attempt survives below a plain filesystem."""
    steps = names(wish(None), Unfinished(DEVICE, INTENT, marked()))
    assert steps == ["WriteIntent", "EraseHead", "MakeFilesystem", "ConcludeFormat"]


def test_the_fourth_attempt_is_refused_with_cause_and_command() -> None:
    """After three failures the refusal says what failed, where, and how to try again."""
    spent = replace(INTENT, attempt=3, phase=FormatPhase.FILESYSTEM, last_error="mkfs.xfs ended with status 1")
    error = refusal(wish(KEYS), Unfinished(DEVICE, spent, None))
    assert isinstance(error, AttemptsExhausted)
    assert "3 times" in str(error)
    assert "filesystem" in str(error)
    assert "mkfs.xfs ended with status 1" in str(error)
    assert error.hint is not None
    assert "luksctl retry STATE" in error.hint


@pytest.mark.parametrize(
    ("observed", "kind", "word"),
    [
        (Missing("partition STATE"), DeviceMissing, "partition STATE"),
        (Ambiguous(("/dev/sda3", "/dev/sdb3"), "two partitions"), AmbiguousDevice, "/dev/sda3, /dev/sdb3"),
        (Foreign(DEVICE, "a LUKS1 volume"), NotBlank, "LUKS1"),
        (Damaged(DEVICE, "no valid copy"), Refused, "no valid copy"),
        (Erasing(DEVICE, RESET, HeaderCopies(Copies.NONE), holder="a mount"), NeedsReboot, "in use by a mount"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("encryption", [KEYS, None], ids=["encrypted", "plain"])
def test_what_is_not_ours_is_refused_by_name(
    observed: Observed, kind: type[LuksctlError], word: str, encryption: object
) -> None:
    """The refusal is of its kind, names the volume and what was found."""
    error = refusal(wish(KEYS if encryption is not None else None), observed)
    assert isinstance(error, kind)
    assert word in str(error)
    assert error.volume == STATE


def test_a_plain_filesystem_is_left_as_it_is() -> None:
    """A plain volume that is wanted plain needs nothing."""
    assert planned(wish(None), PLAIN).converged


def test_a_plain_filesystem_is_never_encrypted_over() -> None:
    """A config that wants encryption does not format the data away."""
    assert isinstance(refusal(wish(KEYS), PLAIN), NotBlank)


def test_a_plain_filesystem_where_encryption_is_on_record_is_not_mounted() -> None:
    """Somebody swapped the volume: the record, or what enable noted, says that it was encrypted."""
    on_record = MetaFacts(MetaState.OK, record=OURS)
    assert "not mounted" in str(refusal(wish(None), PLAIN, on_record))
    assert "not mounted" in str(refusal(replace(wish(None), expect_encrypted=True), PLAIN))


@pytest.mark.parametrize("volume", [STATE, EPHEMERAL])
def test_a_plain_filesystem_is_not_mounted_while_meta_is_unreadable(volume: str) -> None:
    """Two bad copies of META are never taken for a META that expects no encryption."""
    facts = MetaFacts(MetaState.UNREADABLE, problem="neither copy is valid")
    error = refusal(wish(None, volume), PLAIN, facts)
    assert isinstance(error, MetaError)
    assert "neither copy is valid" in str(error)


def test_an_unmountable_filesystem_is_refused() -> None:
    """A filesystem that is none for a volume of ours is somebody's."""
    assert isinstance(refusal(wish(None), FilesystemFound(DEVICE, Signature("iso9660", usage="filesystem"))), NotBlank)


def test_a_luks2_volume_is_opened() -> None:
    """A whole volume that is closed needs to be opened; an open one needs nothing."""
    assert names(wish(KEYS), luks()) == ["OpenVolume"]
    assert planned(wish(KEYS), luks(mapping=OPEN)).converged


def test_a_luks2_volume_that_is_wanted_plain_is_not_opened() -> None:
    """Encryption that the config does not ask for is refused by name."""
    assert isinstance(refusal(wish(None), luks()), NotBlank)


def test_an_open_volume_without_filesystem_is_refused() -> None:
    """A filesystem belongs to a format; a finished volume without a filesystem lost it."""
    assert "no filesystem" in str(refusal(wish(KEYS), luks(mapping=MAPPING)))


@pytest.mark.parametrize("state", [Copies.DIFFER, Copies.FIRST_ONLY, Copies.SECOND_ONLY])
@pytest.mark.parametrize("mapping", [None, OPEN], ids=["closed", "open"])
def test_copies_of_our_volume_are_repaired(state: Copies, mapping: Mapping | None) -> None:
    """A volume on record as ours is repaired once a key has opened it, and not mounted before."""
    opening = [] if mapping is not None else ["OpenVolume"]
    facts = MetaFacts(MetaState.OK, record=OURS)
    assert names(wish(KEYS), luks(state, mapping), facts) == [*opening, "RepairHeader"]


@pytest.mark.parametrize("state", [Copies.DIFFER, Copies.FIRST_ONLY, Copies.SECOND_ONLY])
def test_copies_of_an_unknown_volume_are_not_repaired(state: Copies) -> None:
    """A volume that META does not know gets no write."""
    assert isinstance(refusal(wish(KEYS), luks(state)), Refused)


def test_a_finished_format_is_concluded() -> None:
    """The intent that outlived its format goes after opening, and after the copies are equal."""
    announced = MetaFacts(MetaState.OK, record=NodeRecord((INTENT,)))
    assert names(wish(KEYS), luks(intent=True), announced) == ["OpenVolume", "ConcludeFormat"]
    torn = luks(Copies.DIFFER, intent=True)
    assert names(wish(KEYS), torn, announced) == ["OpenVolume", "RepairHeader", "ConcludeFormat"]


@pytest.mark.parametrize("state", [MetaState.ABSENT, MetaState.UNREADABLE])
def test_a_volume_opens_without_meta(state: MetaState) -> None:
    """A META that cannot be written is no reason to stay locked, and is not written."""
    assert names(following(wish(KEYS)), luks(), MetaFacts(state)) == ["OpenVolume"]


@pytest.mark.parametrize("state", [MetaState.FIRST_ONLY, MetaState.SECOND_ONLY, MetaState.DIFFER])
def test_meta_is_mended_first(state: MetaState) -> None:
    """A torn META is mended before anything else, and also when nothing else is to do."""
    assert names(wish(KEYS), luks(mapping=OPEN), MetaFacts(state)) == ["RepairMeta"]
    assert names(wish(KEYS), Blank(DEVICE), MetaFacts(state)) == ["RepairMeta", *FORMAT_STATE]


def test_a_device_without_partition_is_announced_by_its_path() -> None:
    """An image file or whole disk has no GPT UUID."""
    image = replace(DEVICE, path="/srv/state.img", partuuid="", disk="", size_bytes=64 * MIB, image=True)
    first = next(step for step in planned(wish(KEYS), Blank(image)).steps if isinstance(step, WriteIntent))
    assert first.intent.partition == "/srv/state.img"
