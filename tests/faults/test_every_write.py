"""The power goes at the writes that libcryptsetup and META really make: a sample here, all of them in `make faults`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.operations import OPERATIONS
from tests.faults.recording import build_recorder
from tests.faults.trial import Trial
from tests.sampling import sampled

TRIED = 1


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled recorder."""
    return build_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_next_boot_ends_well_after_a_cut_at_any_write(name: str, recorder: Path, tmp_path: Path) -> None:
    """Whatever of the unsynced writes arrived, in whichever order, whole or torn: the next boot ends in sync."""
    directory = tmp_path / "node"
    directory.mkdir()
    trial = Trial(recorder, directory, name, os.environ.get("SEED", "0"))
    assert len(trial.cuts) >= 5, "a config that is only staged is one file"
    for cut in sampled(trial.cuts, max(1, len(trial.cuts) // TRIED), salt=name):
        trial.boot_after(cut)
