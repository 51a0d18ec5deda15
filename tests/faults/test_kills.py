"""SIGKILL at any point of every operation: the next boot ends as it must, by itself. All of them with FAULTS=all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.killed import KILLED
from tests.faults.kills import count_points, kill_at, renew
from tests.sampling import everything, sampled

SAMPLED = 1


@pytest.mark.parametrize("name", sampled(list(KILLED), 4, salt="killed"))
def test_the_next_boot_ends_well_after_a_kill_anywhere(name: str, tmp_path: Path) -> None:
    """Before the first step, after any, and before each write, sync or rename of ours."""
    directory, kept = tmp_path / "node", tmp_path / "kept"
    directory.mkdir()
    KILLED[name].prepare(directory)
    shutil.copytree(directory, kept)
    count = count_points(directory, KILLED[name].perform)
    assert count > 4
    share = 1 if everything() else max(1, count // SAMPLED)
    for number in sampled(range(count), share, salt=f"killed {name}"):
        renew(directory, kept)
        kill_at(directory, name, number)
        try:
            KILLED[name].next_boot(directory)
        except Exception as error:
            error.add_note(f"{name}: killed at point {number} of {count}")
            raise
