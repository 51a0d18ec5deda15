"""META on a file: one change at a time, proven on the medium, locked, and nothing remembered in between."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from luksctl.errors import Busy, LuksctlError, MetaError
from luksctl.meta.medium import Medium
from luksctl.meta.store import AdvStore
from luksctl.model.config import ConfiguredKey, NodeIdKey, VolumeEncryption
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import TAG_LUKSCTL, MetaState, NodeRecord
from tests.meta.torn import COPY, MIB, TearingMedium, legacy_copy, meta_image, store_of, talos_copy

NODE_ID = VolumeEncryption((ConfiguredKey(0, NodeIdKey()),))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the path of a META with tags 9 and 12, as Talos would write it."""
    path = tmp_path / "meta.img"
    path.write_bytes(meta_image(talos_copy([(12, b"twelve"), (9, b"null")])))
    return path


def test_tags_are_written_read_listed_and_deleted(image: Path) -> None:
    """The four verbs of luksctl meta."""
    store = store_of(image)
    store.write_tag(13, b"\x00\xff")
    assert store.read_tag(13) == b"\x00\xff"
    assert list(store.list_tags()) == [9, 12, 13]
    store.delete_tag(12)
    assert store.list_tags() == {9: b"null", 13: b"\x00\xff"}
    data = image.read_bytes()
    assert data[:COPY] == data[COPY : 2 * COPY] == talos_copy([(9, b"null"), (13, b"\x00\xff")])


@pytest.mark.parametrize("operation", [AdvStore.read_tag, AdvStore.delete_tag])
def test_a_tag_that_is_not_there_is_named(image: Path, operation: Callable[[AdvStore, int], object]) -> None:
    """Reading or deleting it says which tag is missing."""
    with pytest.raises(MetaError, match=r"META has no tag 0x0d \(user reserved 2\)"):
        operation(store_of(image), 13)


@pytest.mark.parametrize("tag", [0, 256])
def test_numbers_that_are_no_tags_are_refused(image: Path, tag: int) -> None:
    """Before META is opened at all."""
    for operation in (AdvStore.read_tag, AdvStore.delete_tag, lambda store, number: store.write_tag(number, b"")):
        with pytest.raises(MetaError, match="outside 1 to 255"):
            operation(store_of(image), tag)


def test_the_unused_middle_and_the_legacy_tail_stay_byte_for_byte(image: Path) -> None:
    """Also a tail that nobody can verify."""
    for tail in (legacy_copy([(9, b"old")]) * 2, b"\xa5" * 1024):
        image.write_bytes(meta_image(talos_copy([]), middle=b"middle", tail=tail))
        before = image.read_bytes()
        store_of(image).write_tag(12, b"x")
        assert image.read_bytes()[2 * COPY :] == before[2 * COPY :]


def test_the_talos_adv_wins_over_the_legacy_one(image: Path) -> None:
    """A tag that only the legacy ADV has is read from there; a write goes to the Talos ADV."""
    image.write_bytes(meta_image(talos_copy([(9, b"new")]), tail=legacy_copy([(9, b"old"), (10, b"ten")]) * 2))
    store = store_of(image)
    assert store.list_tags() == {9: b"new", 10: b"ten"}
    store.write_tag(10, b"TEN")
    assert store.read_tag(10) == b"TEN"
    store.delete_tag(10)
    assert store.list_tags() == {9: b"new"}


def test_tags_of_a_legacy_adv_alone_are_read_and_kept(image: Path) -> None:
    """A META from before the Talos ADV: its tags serve, and the first write keeps them."""
    image.write_bytes(meta_image(bytes(COPY), tail=legacy_copy([(9, b"null")]) * 2))
    assert store_of(image).load().has_tag9
    store_of(image).write_tag(12, b"x")
    assert store_of(image).list_tags() == {9: b"null", 12: b"x"}


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.write_tag(12, b"twelve"),
        lambda store: store.write_state_encryption(NODE_ID),
        lambda store: store.update_record(lambda record: record.with_finished("STATE", "p", encrypted=True)),
    ],
)
def test_a_change_that_changes_nothing_writes_nothing(image: Path, change: Callable[[AdvStore], None]) -> None:
    """A converged boot leaves META alone."""
    change(store_of(image))
    medium = TearingMedium(str(image))
    change(store_of(image, medium))
    assert medium.puts == []


def test_facts_are_what_the_tags_say(image: Path) -> None:
    """Tag 9, tag 15 and our record become values; nothing of them is remembered by the store."""
    store = store_of(image)
    facts = store.load()
    assert (facts.state, facts.has_tag9, facts.state_encryption, facts.uuid_override) == (
        MetaState.OK,
        True,
        None,
        None,
    )
    store_of(image).write_state_encryption(NODE_ID)
    store_of(image).write_tag(15, b"my-own-identity\xff")
    store_of(image).update_record(lambda record: record.with_intent(FormatIntent("STATE", "p", "u")))
    facts = store.load()
    assert facts.state_encryption == NODE_ID
    assert facts.uuid_override == "my-own-identity\udcff"
    assert "my-own-identity" not in repr(facts)
    assert facts.record.intent("STATE") == FormatIntent("STATE", "p", "u")


def test_state_without_encryption_deletes_tag_9(image: Path) -> None:
    """None is no tag, not the literal null; deleting what is not there is no error."""
    store = store_of(image)
    store.write_state_encryption(None)
    assert 9 not in store.list_tags()
    store.write_state_encryption(None)
    assert not store.load().has_tag9


def test_an_unusable_tag_9_is_a_finding(image: Path) -> None:
    """The rest of META still serves."""
    store_of(image).write_tag(9, b'{"EncryptionProvider":"luks9"}')
    facts = store_of(image).load()
    assert facts.state is MetaState.OK
    assert facts.has_tag9
    assert facts.state_encryption is None
    assert facts.tag9_problem is not None


@pytest.mark.parametrize("value", [b'{"version":9,"intents":"other"}', b"[]", b"\xff"])
def test_a_record_nobody_here_understands_makes_meta_unreadable(image: Path, value: bytes) -> None:
    """What a newer luksctl announced is not lost and not overwritten, and nothing may be formatted over it."""
    store_of(image).write_tag(TAG_LUKSCTL, value)
    facts = store_of(image).load()
    assert not facts.readable
    assert facts.problem is not None
    assert "tag 0xe0" in facts.problem
    assert facts.has_tag9
    with pytest.raises(MetaError, match="tag 0xe0"):
        store_of(image).update_record(lambda record: record.with_finished("STATE", "p", encrypted=True))
    assert store_of(image).read_tag(TAG_LUKSCTL) == value


def test_unknown_fields_of_the_record_are_kept(image: Path) -> None:
    """A field that this version may ignore survives its writes."""
    store_of(image).write_tag(TAG_LUKSCTL, b'{"version":1,"colour":{"red":1}}')
    store_of(image).update_record(lambda record: record.with_finished("STATE", "p", encrypted=True))
    assert b'"colour":{"red":1}' in store_of(image).read_tag(TAG_LUKSCTL)
    assert store_of(image).load().record.partition("STATE") == "p"


def test_what_does_not_fit_changes_nothing(image: Path) -> None:
    """A full META says so, before the first byte."""
    before = image.read_bytes()
    with pytest.raises(MetaError, match="262104 fit"):
        store_of(image).write_tag(14, bytes(262100))
    assert image.read_bytes() == before


@pytest.mark.parametrize("size", [0, 4096, MIB - 1, MIB + 1, 2 * MIB])
def test_meta_of_another_size_is_not_meta(image: Path, size: int) -> None:
    """Exactly 1 MiB, or nothing is read or written."""
    os.truncate(image, size)
    before = image.read_bytes()
    facts = store_of(image).load()
    assert facts.state is MetaState.UNREADABLE
    with pytest.raises(MetaError, match=f"{size} bytes"):
        store_of(image).write_tag(12, b"x")
    assert image.read_bytes() == before


def test_meta_that_is_not_there_is_absent_and_not_made(tmp_path: Path) -> None:
    """Without leave to create it, a missing META stays missing."""
    image = tmp_path / "meta.img"
    assert store_of(image).load().state is MetaState.ABSENT
    for operation in (AdvStore.list_tags, AdvStore.repair, lambda store: store.write_tag(12, b"x")):
        with pytest.raises(MetaError, match="is not there"):
            operation(store_of(image))
    assert not image.exists()


def test_an_image_file_is_made_when_allowed(tmp_path: Path) -> None:
    """The first write makes 1 MiB with mode 0600, also over the leftover of an interrupted attempt; a read does not."""
    image = tmp_path / "meta.img"
    (tmp_path / "meta.img.new").write_bytes(b"torn")
    store = store_of(image, create=True)
    assert store.load().state is MetaState.ABSENT
    assert not image.exists()
    store.write_tag(12, b"x")
    assert image.stat().st_size == MIB
    assert image.stat().st_mode & 0o777 == 0o600
    assert store.list_tags() == {12: b"x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.img", "meta.img.lock"]


def test_an_image_in_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message names what could not be opened."""
    with pytest.raises(MetaError, match="No such file"):
        store_of(tmp_path / "none" / "meta.img", create=True).write_tag(12, b"x")


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_neither_file_nor_disk_is_an_error(tmp_path: Path, kind: str) -> None:
    """A FIFO in META's place neither hangs nor is read."""
    path = tmp_path / "meta"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(MetaError, match="neither a block device nor a file"):
        store_of(path).load()


def test_a_held_lock_is_busy_and_nothing_is_written(image: Path) -> None:
    """Whoever holds the lock goes first; reading META that is in order needs no lock."""
    before = image.read_bytes()
    with open(f"{image}.lock", "wb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another process held"):
            store_of(image).write_tag(12, b"x")
        assert store_of(image).list_tags() == {9: b"null", 12: b"twelve"}
    assert image.read_bytes() == before
    store_of(image).write_tag(12, b"x")


def test_damage_seen_beside_a_writer_says_that_there_is_one(image: Path) -> None:
    """A copy that is torn while somebody writes is reported with the reason why it could not be looked at again."""
    data = bytearray(image.read_bytes())
    data[100] ^= 1
    image.write_bytes(data)
    with open(f"{image}.lock", "wb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        facts = store_of(image).load()
    assert facts.state is MetaState.SECOND_ONLY
    assert facts.problem is not None
    assert "another process held" in facts.problem


def test_damage_is_looked_at_again_when_the_writer_is_done(image: Path) -> None:
    """The second look counts."""
    good = image.read_bytes()

    class MendedLater(Medium):
        looks = 0

        def read(self, regions: Sequence[tuple[int, int]]) -> list[bytearray | None]:
            self.looks += 1
            image.write_bytes(good if self.looks > 1 else bytes(COPY) + good[COPY:])
            return super().read(regions)

    (image.parent / f"{image.name}.lock").touch()
    medium = MendedLater(str(image))
    assert store_of(image, medium).load().state is MetaState.OK
    assert medium.looks == 2


def test_the_image_cannot_be_its_own_lock(image: Path) -> None:
    """Its inode changes when it is made, so a lock on it guards nothing."""
    with pytest.raises(MetaError, match="its own lock"):
        AdvStore(str(image), str(image), lock_timeout_s=0.0).write_tag(12, b"x")


class Failing(Medium):
    """Fails with EIO in put number `fail_at`, after half of it got through."""

    def __init__(self, path: str, fail_at: int) -> None:
        super().__init__(path)
        self._left = fail_at

    def put(self, descriptor: int, offset: int, data: bytes | bytearray) -> None:
        """Write or fail."""
        if self._left == 0:
            super().put(descriptor, offset, data[:512])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._left -= 1
        super().put(descriptor, offset, data)


@pytest.mark.parametrize("fail_at", [0, 1])
def test_after_a_failed_write_the_store_says_what_the_disk_says(image: Path, fail_at: int) -> None:
    """A failing flush is an error, is remembered nowhere, and the next try does the whole change again."""
    store = store_of(image, Failing(str(image), fail_at))
    with pytest.raises(MetaError, match="Input/output error"):
        store.write_tag(12, b"changed" * 200)
    seen_by_others = store_of(image).list_tags()
    assert store.list_tags() == seen_by_others
    assert seen_by_others[12] in (b"twelve", b"changed" * 200)
    store_of(image).write_tag(12, b"changed" * 200)
    assert store_of(image).load().state is MetaState.OK


def test_a_medium_that_lies_is_noticed_before_the_second_copy(image: Path) -> None:
    """What comes back differs from what was written: copy B is left alone, and still holds the old tags."""

    class Lying(Medium):
        def put(self, descriptor: int, offset: int, data: bytes | bytearray) -> None:
            super().put(descriptor, offset, bytes(data[:-1]) + b"\0")

    with pytest.raises(MetaError, match="not what was written"):
        store_of(image, Lying(str(image))).write_tag(12, b"x")
    facts = store_of(image).load()
    assert facts.state is MetaState.SECOND_ONLY
    assert store_of(image).read_tag(12) == b"twelve"


class Unreadable(Medium):
    """Gives a read error for every region that begins at one of `bad`."""

    def __init__(self, path: str, bad: set[int]) -> None:
        super().__init__(path)
        self._bad = bad

    def get(self, descriptor: int, offset: int, length: int) -> bytearray:
        """Read or fail."""
        if offset in self._bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().get(descriptor, offset, length)


@pytest.mark.parametrize(
    ("bad", "state"),
    [
        ({0}, MetaState.SECOND_ONLY),
        ({COPY}, MetaState.FIRST_ONLY),
        ({0, COPY}, MetaState.UNREADABLE),
        ({MIB - 4096}, MetaState.OK),
        ({2 * COPY}, MetaState.OK),
    ],
)
def test_a_bad_sector_costs_one_copy(image: Path, bad: set[int], state: MetaState) -> None:
    """A read error in one copy leaves the other; in both it is unreadable, not empty."""
    facts = store_of(image, Unreadable(str(image), bad)).load()
    assert facts.state is state
    assert facts.has_tag9 == (state is not MetaState.UNREADABLE)


def test_a_disk_that_gives_nothing_is_an_error(image: Path) -> None:
    """No region can be read."""
    with pytest.raises(MetaError, match="Input/output error"):
        store_of(image, Unreadable(str(image), {0, COPY, MIB - 4096})).load()


@pytest.mark.parametrize("bad", [COPY, 2 * COPY, MIB - 4096])
def test_blank_is_only_what_was_read_whole(image: Path, bad: int) -> None:
    """Zeros beside a bad sector may be what is left of anything."""
    image.write_bytes(bytes(MIB))
    assert store_of(image).load().state is MetaState.BLANK
    assert store_of(image, Unreadable(str(image), {bad})).load().state is MetaState.UNREADABLE


@pytest.mark.parametrize("place", [2 * COPY, MIB - 4096, MIB - 1025])
def test_blank_is_zero_between_the_copies_and_the_end(image: Path, place: int) -> None:
    """One byte anywhere in the part that nobody uses, and META was written by somebody."""
    data = bytearray(MIB)
    data[place] = 1
    image.write_bytes(data)
    assert store_of(image).load().state is MetaState.UNREADABLE


def test_a_failing_change_writes_nothing(image: Path) -> None:
    """An error in the caller's own function leaves META and its lock as they were."""
    before = image.read_bytes()

    def fail(record: NodeRecord) -> NodeRecord:
        raise LuksctlError(f"no {record.encrypted}")

    with pytest.raises(LuksctlError, match="no"):
        store_of(image).update_record(fail)
    assert image.read_bytes() == before
    store_of(image).write_tag(12, b"x")


def test_direct_reads_give_what_is_in_the_file(image: Path) -> None:
    """The aligned buffer of the block device path reads through O_DIRECT where the filesystem can."""
    try:
        descriptor = os.open(image, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("this filesystem has no O_DIRECT")
    try:
        assert Medium(str(image)).get(descriptor, COPY, COPY) == image.read_bytes()[COPY : 2 * COPY]
    finally:
        os.close(descriptor)
