"""Plans: what destroys, what is converged, what is refused."""

from __future__ import annotations

from luksctl.errors import Refused
from luksctl.model.config import STATE, Filesystem
from luksctl.model.plan import Plan
from luksctl.model.step import CloseVolume, MakeFilesystem

CLOSE = CloseVolume(STATE, "luks2-STATE")
MKFS = MakeFilesystem(STATE, "/dev/mapper/luks2-STATE", Filesystem.XFS, None, 1 << 20)


def test_one_destructive_step_makes_the_plan_destructive() -> None:
    """The order does not matter."""
    assert Plan(STATE, (CLOSE, MKFS)).destroys_data
    assert not Plan(STATE, (CLOSE,)).destroys_data


def test_a_refused_plan_is_not_converged() -> None:
    """Having no steps is converged only where nothing was refused."""
    assert Plan(STATE).converged
    assert not Plan(STATE, refusal=Refused("no proven key would be left")).converged
    assert not Plan(STATE, (CLOSE,)).converged
