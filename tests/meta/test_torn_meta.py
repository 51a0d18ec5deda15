"""The power fails inside a META write: what is found then, and that mending ends with two equal copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luksctl.errors import MetaError
from luksctl.meta.store import AdvStore
from luksctl.model.meta import TAG_LUKSCTL, MetaState
from tests.meta.torn import (
    COPY,
    MIB,
    PowerCutError,
    TearingMedium,
    changed_sectors,
    legacy_copy,
    meta_image,
    store_of,
    subsets,
    talos_copy,
)

OLD = {9: b"null", 12: b"old" * 300, 200: b"z"}
NEW = {**OLD, 12: b"new" * 400}
GARBAGE = b"\x01" * COPY


def write_new(store: AdvStore) -> None:
    store.write_tag(12, NEW[12])


def delete_nine(store: AdvStore) -> None:
    store.delete_tag(9)


def finish_state(store: AdvStore) -> None:
    store.update_record(lambda record: record.with_finished("STATE", "p", encrypted=True))


def image_of(tags: dict[int, bytes]) -> bytes:
    return meta_image(talos_copy(list(tags.items())))


def tear(image: Path, before: bytes, change: Callable[[AdvStore], None], cut_at: int, kept: tuple[int, ...]) -> None:
    """Run `change` over `before` and lose power in put `cut_at`, of which the sectors `kept` get through."""
    image.write_bytes(before)
    with pytest.raises(PowerCutError):
        change(store_of(image, TearingMedium(str(image), cut_at=cut_at, kept=kept)))


def check_mends(image: Path, found: dict[int, bytes]) -> None:
    """Repair and find the same tags in two equal valid copies; a second repair writes nothing."""
    store_of(image).repair()
    assert store_of(image).list_tags() == found
    data = image.read_bytes()
    assert data[:COPY] == data[COPY : 2 * COPY]
    again = TearingMedium(str(image))
    store_of(image, again).repair()
    assert again.puts == []


def puts_of(image: Path, before: bytes, change: Callable[[AdvStore], None]) -> list[tuple[int, bytes]]:
    """Return the writes that `change` makes over `before` when nothing fails."""
    image.write_bytes(before)
    medium = TearingMedium(str(image))
    change(store_of(image, medium))
    return medium.puts


@pytest.mark.parametrize("change", [write_new, delete_nine])
def test_every_torn_update_leaves_old_or_new(tmp_path: Path, change: Callable[[AdvStore], None]) -> None:
    """Whatever set of changed sectors got through in either copy, META says the old tags or the new, and mends."""
    image = tmp_path / "meta"
    before = image_of(OLD)
    puts = puts_of(image, before, change)
    new = store_of(image).list_tags()
    assert [offset for offset, _ in puts] == [0, COPY]
    for cut_at, (offset, data) in enumerate(puts):
        sectors = changed_sectors(before[offset : offset + COPY], data)
        assert len(sectors) > 1
        for kept in subsets(sectors):
            tear(image, before, change, cut_at, kept)
            found = store_of(image).list_tags()
            assert found == (new if cut_at == 1 or kept == tuple(sectors) else OLD)
            assert store_of(image).load().state is not MetaState.UNREADABLE
            check_mends(image, found)


def test_every_torn_first_write_leaves_blank_or_readable(tmp_path: Path) -> None:
    """From zeros: the empty copies come first, so that also a torn first write is told from damage, and goes on."""
    image = tmp_path / "meta"
    blank = bytes(MIB)
    puts = puts_of(image, blank, write_new)
    assert len(puts) == 4
    state = bytearray(blank)
    for cut_at, (offset, data) in enumerate(puts):
        for kept in subsets(changed_sectors(bytes(state[offset : offset + COPY]), data)):
            tear(image, blank, write_new, cut_at, kept)
            assert store_of(image).load().state is not MetaState.UNREADABLE
            assert store_of(image).list_tags() in ({}, {12: NEW[12]})
            write_new(store_of(image))
            assert store_of(image).load().state is MetaState.OK
            assert store_of(image).list_tags() == {12: NEW[12]}
        state[offset : offset + COPY] = data


@pytest.mark.parametrize(
    ("copy_a", "copy_b", "state"),
    [
        (talos_copy([*OLD.items()]), GARBAGE, MetaState.FIRST_ONLY),
        (talos_copy([*OLD.items()]), bytes(COPY), MetaState.FIRST_ONLY),
        (GARBAGE, talos_copy([*OLD.items()]), MetaState.SECOND_ONLY),
        (bytes(COPY), talos_copy([*OLD.items()]), MetaState.SECOND_ONLY),
        (talos_copy([*OLD.items()]), talos_copy([*NEW.items()]), MetaState.DIFFER),
        (talos_copy([*OLD.items()]), talos_copy([*reversed(OLD.items())]), MetaState.DIFFER),
    ],
)
def test_copies_that_disagree_are_mended_before_anything_else(
    tmp_path: Path, copy_a: bytes, copy_b: bytes, state: MetaState
) -> None:
    """The state says which copy serves; a change first makes both equal, and only then writes A and B."""
    image = tmp_path / "meta"
    image.write_bytes(meta_image(copy_a, copy_b))
    facts = store_of(image).load()
    assert facts.state is state
    assert facts.problem is not None
    assert store_of(image).list_tags() == OLD
    medium = TearingMedium(str(image))
    store_of(image, medium).write_tag(13, b"thirteen")
    serving = copy_b if state is MetaState.SECOND_ONLY else copy_a
    mended_at = 0 if state is MetaState.SECOND_ONLY else COPY
    assert medium.puts[0] == (mended_at, serving)
    assert [offset for offset, _ in medium.puts[1:]] == [0, COPY]
    assert store_of(image).load().state is MetaState.OK
    assert store_of(image).list_tags() == {**OLD, 13: b"thirteen"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data(), start=st.sampled_from(["torn A", "torn B", "differ"]))
def test_a_cut_while_mending_a_cut_keeps_the_tags(tmp_path: Path, data: st.DataObject, start: str) -> None:
    """A second power cut during the repair, or during the write after it, still leaves old or new."""
    image = tmp_path / "meta"
    good, other = talos_copy([*OLD.items()]), talos_copy([*NEW.items()])
    broken = bytearray(good)
    broken[data.draw(st.integers(0, COPY - 1))] ^= 0xFF
    pairs = {"torn A": (bytes(broken), good), "torn B": (good, bytes(broken)), "differ": (good, other)}
    before = meta_image(*pairs[start])
    kept = data.draw(st.sets(st.one_of(st.integers(0, 8), st.just(COPY // 512 - 1))))
    tear(image, before, write_new, data.draw(st.integers(0, 2)), tuple(kept))
    found = store_of(image).list_tags()
    assert found in (OLD, NEW)
    check_mends(image, found)


def test_two_bad_copies_are_never_empty_and_never_written(tmp_path: Path) -> None:
    """Both torn is unreadable: every tag operation fails, the facts say so, and the bytes stay."""
    image = tmp_path / "meta"
    before = meta_image(GARBAGE, GARBAGE, tail=legacy_copy([(9, b"null")]) * 2)
    image.write_bytes(before)
    facts = store_of(image).load()
    assert facts.state is MetaState.UNREADABLE
    assert not facts.readable
    assert facts.problem is not None
    assert "copy A: the magic at its start is missing" in facts.problem
    for operation in (
        write_new,
        delete_nine,
        AdvStore.list_tags,
        AdvStore.repair,
        lambda store: store.read_tag(9),
        lambda store: store.update_record(lambda record: record),
        lambda store: store.write_state_encryption(None),
    ):
        with pytest.raises(MetaError, match="neither copy of META is valid"):
            operation(store_of(image))
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(meta_image(bytes(COPY), middle=b"\x01"), id="something in the middle"),
        pytest.param(meta_image(bytes(COPY), tail=b"\x01"), id="something in the tail"),
        pytest.param(meta_image(b"XFSB".ljust(COPY, b"\0"), bytes(COPY)), id="a filesystem"),
        pytest.param(meta_image(talos_copy([])[:512].ljust(COPY, b"\x01"), bytes(COPY)), id="more than a torn first"),
    ],
)
def test_what_is_not_all_zero_is_not_blank(tmp_path: Path, before: bytes) -> None:
    """Foreign bytes anywhere keep META from being taken for new."""
    image = tmp_path / "meta"
    image.write_bytes(before)
    assert store_of(image).load().state is MetaState.UNREADABLE
    with pytest.raises(MetaError):
        write_new(store_of(image))
    assert image.read_bytes() == before


def test_zeros_are_blank_and_stay_so_when_read_or_mended(tmp_path: Path) -> None:
    """Blank META has no tags, and only a change of ours makes it something."""
    image = tmp_path / "meta"
    image.write_bytes(bytes(MIB))
    assert store_of(image).load().state is MetaState.BLANK
    assert store_of(image).list_tags() == {}
    store_of(image).repair()
    store_of(image).write_state_encryption(None)
    store_of(image).update_record(lambda record: record)
    assert image.read_bytes() == bytes(MIB)


def test_a_torn_delete_never_brings_back_the_legacy_value(tmp_path: Path) -> None:
    """The tag is in both places: after a cut it has the value it had, or it is gone; never the one below."""
    image = tmp_path / "meta"
    before = meta_image(talos_copy([(9, b"now"), (12, b"x")]), tail=legacy_copy([(3, b"keep"), (9, b"once")]) * 2)
    puts = puts_of(image, before, delete_nine)
    after = image.read_bytes()
    assert store_of(image).list_tags() == {3: b"keep", 12: b"x"}
    assert after[-1024:] == legacy_copy([(3, b"keep")]) * 2
    assert [offset for offset, _ in puts] == [MIB - 1024, MIB - 512, 0, COPY]
    state = bytearray(before)
    for cut_at, (offset, data) in enumerate(puts):
        for kept in subsets(changed_sectors(bytes(state[offset : offset + len(data)]), data)):
            tear(image, before, delete_nine, cut_at, kept)
            assert store_of(image).list_tags().get(9) in (b"now", None)
        state[offset : offset + len(data)] = data


def test_a_torn_record_update_keeps_a_whole_record(tmp_path: Path) -> None:
    """Our own record is old or new, never half of each."""
    image = tmp_path / "meta"
    before = image_of(OLD)
    for cut_at in (0, 1):
        for kept in subsets([0, COPY // 512 - 1]):
            tear(image, before, finish_state, cut_at, kept)
            record = store_of(image).load().record
            assert (record.encrypted, record.partition("STATE")) in (((), None), (("STATE",), "p"))
            assert set(store_of(image).list_tags()) - {TAG_LUKSCTL} == set(OLD)
