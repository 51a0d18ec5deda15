"""A re-encryption that broke off leaves a suspended device below the mapping: what waits for it is let go of."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.devices import hot_zone as room
from luksctl.devices.hot_zone import fail_hot_zone, hot_zone
from luksctl.devices.programs import Program
from tests.devices.fake_tree import FakeTree

MAPPED, ZONE = "luks2-EPHEMERAL", "luks2-EPHEMERAL-hotzone-forward"


@pytest.fixture
def dmsetup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program in the place of dmsetup that only notes what it is asked for; return its notes."""
    notes, program = tmp_path / "notes", tmp_path / "dmsetup"
    program.write_text(f'#!/bin/sh\necho "$*" >>{notes}\n')
    program.chmod(0o755)

    def locate(_: Program) -> str:
        return str(program)

    monkeypatch.setattr(room, "locate", locate)
    return notes


def test_the_hot_zone_is_that_of_the_mapping(installed: FakeTree) -> None:
    """Another volume may be re-encrypted at the same time, and a mapping alone has none."""
    installed.add_dm("dm-0", "253:0", MAPPED, "CRYPT-LUKS2-0123", ("sda3",))
    assert hot_zone(MAPPED, installed.tree) is None
    installed.add_dm("dm-1", "253:1", "luks2-STATE-hotzone-forward", "CRYPT-SUBDEV-4567", ("sda2",))
    assert hot_zone(MAPPED, installed.tree) is None
    installed.add_dm("dm-2", "253:2", ZONE, "CRYPT-SUBDEV-0123", ("sda3",))
    assert hot_zone(MAPPED, installed.tree) == ZONE


def test_what_waits_for_a_suspended_hot_zone_fails(installed: FakeTree, dmsetup: Path) -> None:
    """All of it is mapped to errors, as libcryptsetup does itself after a failed write."""
    installed.add_dm("dm-2", "253:2", ZONE, "CRYPT-SUBDEV-0123", ("sda3",))
    installed.write("dm-2", "dm/suspended", "1")
    fail_hot_zone(ZONE, installed.tree)
    assert dmsetup.read_text() == f"load {ZONE} --table 0 2097152 error\nresume {ZONE}\n"


def test_a_hot_zone_that_nothing_waits_for_is_left_alone(installed: FakeTree, dmsetup: Path) -> None:
    """Where the library has put errors in its place already, there is nothing to do."""
    installed.add_dm("dm-2", "253:2", ZONE, "CRYPT-SUBDEV-0123", ("sda3",))
    installed.write("dm-2", "dm/suspended", "0")
    fail_hot_zone(ZONE, installed.tree)
    assert not dmsetup.exists()
