"""Power is cut after each step of the plan that formats EPHEMERAL, and inside its format and mkfs."""

from __future__ import annotations

from pathlib import Path

from first_boots import FirstBoot
from power_cuts import assert_every_cut_heals, assert_torn_volumes_are_refused, first_boot, stage
from stage import Stage

__all__ = ["first_boot", "stage"]


def test_every_cut_is_followed_by_a_boot_that_mounts_both(first_boot: FirstBoot, stage: Stage, tmp_path: Path) -> None:
    """After each step, and at ten writes inside format and mkfs, the next boot ends well by itself."""
    assert_every_cut_heals(first_boot, "EPHEMERAL", stage, tmp_path)


def test_the_same_torn_volume_of_others_is_refused_untouched(first_boot: FirstBoot, tmp_path: Path) -> None:
    """Below a META that announces nothing they are foreign: no step is planned, no byte changes."""
    assert_torn_volumes_are_refused(first_boot, "EPHEMERAL", tmp_path)
