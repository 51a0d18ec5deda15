"""Directories kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rig import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep these tests out of the checkout's own cache."""
    monkeypatch.setattr(cache, "CACHE", tmp_path)
    return tmp_path


def test_second_caller_finds_what_the_first_built() -> None:
    """One key is built once."""
    calls: list[Path] = []

    def build(work: Path) -> None:
        calls.append(work)
        (work / "file").write_text("built")

    first = cache.built("kind", "key", build)
    assert cache.built("kind", "key", build) == first
    assert (first / "file").read_text() == "built"
    assert len(calls) == 1


def test_build_that_fails_leaves_nothing_that_looks_finished(own_cache: Path) -> None:
    """After a failure the next caller builds again, and no half-built directory stays."""

    def fail(work: Path) -> None:
        (work / "half").write_text("")
        raise RuntimeError("out of space")

    with pytest.raises(RuntimeError, match="out of space"):
        cache.built("kind", "key", fail)
    assert list((own_cache / "kind").iterdir()) == []
    assert cache.built("kind", "key", lambda work: (work / "whole").touch()).is_dir()


def test_directory_of_a_killed_builder_is_removed_by_the_next(own_cache: Path) -> None:
    """A builder that was killed leaves its directory; the next one clears it away."""
    (own_cache / "kind" / "building-dead").mkdir(parents=True)
    cache.built("kind", "key", lambda _: None)
    assert not (own_cache / "kind" / "building-dead").exists()


def test_old_ones_make_room_and_those_in_use_do_not(own_cache: Path) -> None:
    """What nobody asked for in hours is removed; what another test run may be using stays, however many there are."""
    for key in ("a", "b", "c"):
        cache.built("kind", key, lambda _: None, keep=2)
    assert len(list((own_cache / "kind").iterdir())) == 3
    for key in ("a", "b"):
        os.utime(own_cache / "kind" / key, (0, 0))
    cache.built("kind", "d", lambda _: None, keep=2)
    assert sorted(path.name for path in (own_cache / "kind").iterdir()) == ["c", "d"]


def test_fingerprint_tells_lists_apart_that_join_to_the_same_bytes() -> None:
    """The border between two parts is part of the hash."""
    assert cache.fingerprint([b"ab", b"c"]) != cache.fingerprint([b"a", b"bc"])


def test_third_guest_waits_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all places taken nobody starts; a place that is given back is taken."""

    class Waited(Exception):
        """Stand for the pause between two looks."""

    def pause(_: float) -> None:
        raise Waited

    monkeypatch.setattr("rig.cache.time.sleep", pause)
    with cache.guest_slot():
        with cache.guest_slot(), pytest.raises(Waited), cache.guest_slot():
            pytest.fail("a third guest got a place")
        with cache.guest_slot():
            pass
