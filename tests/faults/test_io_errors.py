"""The disk fails at one place, for reads or for writes: that is told, and once it is mended the next boot goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.failing import DATA, HEADER, KEY_AREAS, READ, WRITE, Failure, build_failing, perform_failing
from tests.faults.operations import OPERATIONS
from tests.sampling import sampled

PLACES = {"header": HEADER, "key areas": KEY_AREAS, "data": DATA}
KINDS = {"read": READ, "write": WRITE}
# How many calls that touch the place succeed before one fails. What a hot zone holds is noted in the key areas.
SUCCEED_BEFORE = {
    "reset": 0,
    "re-encryption": 0,
    "re-encryption, begun": 3,
    "encryption in place, until the header is placed": 0,
    "encryption in place, its hot zones": 0,
    "decryption in place, its hot zones": 0,
}
CASES = [(name, kind, place) for name in SUCCEED_BEFORE for kind in KINDS for place in PLACES]
SHARE = 6


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled library."""
    return build_failing(tmp_path_factory.mktemp("failing"))


@pytest.mark.parametrize(("name", "kind", "place"), sampled(CASES, SHARE, salt="io"))
def test_what_the_disk_refuses_is_told_and_done_later(
    name: str, kind: str, place: str, failing: Path, tmp_path: Path
) -> None:
    """It ends in an error that names the device; whatever was done until then, a boot with a sound disk ends well."""
    directory = tmp_path / "node"
    directory.mkdir()
    OPERATIONS[name].prepare(directory)
    failure = Failure(KINDS[kind], PLACES[place], SUCCEED_BEFORE[name])
    outcome = perform_failing(failing, directory, name, failure)
    assert outcome.failed
    assert outcome.error.startswith("luksctl.errors."), outcome.error
    assert str(directory / "state.img") in outcome.error
    OPERATIONS[name].next_boot(directory)


def test_a_copy_of_the_head_that_is_not_overwritten_is_told(failing: Path, tmp_path: Path) -> None:
    """The library takes that for a success, and it is plain text: the fourth write beyond the header area is that."""
    directory, name = tmp_path / "node", "encryption in place, its hot zones"
    directory.mkdir()
    OPERATIONS[name].prepare(directory)
    outcome = perform_failing(failing, directory, name, Failure(WRITE, DATA, 3))
    assert outcome.failed
    assert "the copy of the head at the end of the device was not overwritten" in outcome.error
    OPERATIONS[name].next_boot(directory)
