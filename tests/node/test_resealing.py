"""What a node remembers of lost tpm keys, so that none goes back and forth between two states by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import DeviceError
from luksctl.model.config import STATE
from luksctl.model.desired import DesiredVolume
from luksctl.model.sealing import Resealing, Sealing, Vouching
from luksctl.node.resealing import FILE_NAME, remember, with_resealing
from luksctl.value import replace
from tests.node.nodes import Bench, bench
from tests.reconcile.world import wish

LOST = Sealing(0, "PCR 7 is bb, and was aa", Vouching("new", "old", holds=True))
DAMAGED = [
    b"",
    b"[",
    b"[]",
    b'{"version": 2, "sealed": []}',
    b'{"version": 1}',
    b'{"version": 1, "sealed": [1]}',
    b"\xff",
]


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    """Return a node with STATE mounted."""
    place = bench(tmp_path)
    place.mount_state()
    return place


def known(place: Bench, *, asked: bool = False) -> Resealing:
    """Return what the next run knows of the tpm keys of STATE."""
    return with_resealing(place.node, wish(None), asked=asked).resealing


def reboot(place: Bench) -> None:
    """Lose what /run held of it."""
    (Path(place.node.paths.run_dir) / "sealed-anew" / STATE).unlink()


def test_a_state_that_was_left_is_known_to_every_later_boot(place: Bench) -> None:
    """Only what the key was bound to: where it goes, it may stay."""
    assert known(place) == Resealing()
    remember(place.node, STATE, [LOST])
    reboot(place)
    remember(place.node, STATE, [LOST, Sealing(3, "gone", Vouching("new", None))])
    reboot(place)
    assert known(place) == Resealing(before=((0, "old"),))
    assert (place.state / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_second_time_in_one_boot_needs_a_person(place: Bench) -> None:
    """A marker in /run says that it was done, even where no key could say what it was bound to."""
    remember(place.node, STATE, [Sealing(0, "the slot is gone", Vouching("new"))])
    assert known(place).barred == "that was done once in this boot"
    assert known(place, asked=True).barred is None


def test_other_volumes_are_not_meant(place: Bench) -> None:
    """Each has its own slots."""
    remember(place.node, "EPHEMERAL", [LOST])
    assert known(place) == Resealing()


@pytest.mark.parametrize("content", DAMAGED)
def test_a_memory_that_cannot_be_read_bars_all_but_the_command(place: Bench, content: bytes) -> None:
    """It may be going back and forth; who names the slot begins the memory anew."""
    (place.state / FILE_NAME).write_bytes(content)
    for asked in (False, True):
        barred = known(place, asked=asked).barred
        assert barred is not None
        assert FILE_NAME in barred
    remember(place.node, STATE, [LOST])
    assert known(place, asked=True) == Resealing(asked=True, before=((0, "old"),))


def test_a_state_that_takes_no_file_lets_nothing_be_replaced(place: Bench) -> None:
    """Nothing was changed yet when that is found out."""
    (place.state / FILE_NAME).mkdir()
    with pytest.raises(DeviceError, match="cannot be noted") as caught:
        remember(place.node, STATE, [LOST])
    assert caught.value.volume == STATE
    assert caught.value.hint is not None


def test_without_state_only_a_person_decides(tmp_path: Path) -> None:
    """Nothing else remembers."""
    place = bench(tmp_path)
    assert "not mounted" in (known(place).barred or "")
    assert known(place, asked=True).barred is None
    remember(place.node, STATE, [LOST])
    assert list(place.state.iterdir()) == []


def test_what_is_replaced_is_told(tmp_path: Path) -> None:
    """With the volume, the slot and the cause."""
    told: list[str] = []
    place = bench(tmp_path)
    remember(replace(place.node, tell=told.append), STATE, [LOST])
    assert told == ["STATE, slot 0: sealed anew, because PCR 7 is bb, and was aa"]


def test_the_memory_does_not_grow_for_ever(place: Bench) -> None:
    """The oldest states go."""
    for number in range(300):
        remember(place.node, STATE, [Sealing(0, "changed", Vouching("new", str(number)))])
    before = known(place, asked=True).before
    assert len(before) == 256
    assert before[-1] == (0, "299")


def test_the_wish_is_otherwise_the_same(place: Bench) -> None:
    """Only what is known of sealing is added."""
    wanted: DesiredVolume = wish(None)
    assert with_resealing(place.node, wanted, asked=False) == wanted
