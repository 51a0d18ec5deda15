"""Power is cut after each step of the plans that format the volumes, inside format and mkfs, and in a rotation."""

from __future__ import annotations

from pathlib import Path

import pytest
from first_boots import FirstBoot
from power_cuts import (
    assert_every_cut_heals,
    assert_rotation_heals,
    assert_torn_volumes_are_refused,
    first_boot,
    stage,
)
from stage import Stage

__all__ = ["first_boot", "stage"]
VOLUMES = ("STATE", "EPHEMERAL")


@pytest.mark.parametrize("volume", VOLUMES)
def test_a_cut_first_boot_is_followed_by_one_that_mounts_both(
    volume: str, first_boot: FirstBoot, stage: Stage, tmp_path: Path
) -> None:
    """After any step, and at writes inside format and mkfs, the next boot ends well by itself."""
    assert_every_cut_heals(first_boot, volume, stage, tmp_path)


@pytest.mark.parametrize("volume", VOLUMES)
def test_the_same_torn_volume_of_others_is_refused_untouched(
    volume: str, first_boot: FirstBoot, tmp_path: Path
) -> None:
    """Below a META that announces nothing they are foreign: no step is planned, no byte changes."""
    assert_torn_volumes_are_refused(first_boot, volume, tmp_path)


def test_a_cut_rotation_is_followed_by_a_boot_that_goes_on(first_boot: FirstBoot, stage: Stage, tmp_path: Path) -> None:
    """The old config or the new one is in STATE, and both volumes have exactly its keys."""
    assert_rotation_heals(first_boot, stage, tmp_path)
