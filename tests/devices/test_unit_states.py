"""What systemctl says about units."""

from __future__ import annotations

import os

import pytest

from luksctl.devices.programs import Program
from luksctl.devices.unit_states import UnitState, parse_states, parse_wanted, unit_states
from luksctl.errors import DeviceError
from tests.devices.fake_tree import needs

_SHOWN = """\
Id=system-state.mount
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Id=luksctl-open@STATE.service
LoadState=loaded
ActiveState=failed
UnitFileState=static

Id=luksctl-check.timer
LoadState=not-found
ActiveState=inactive
UnitFileState=
"""


def test_each_unit_has_its_block() -> None:
    """Also one that is not there, and one with an instance in its name."""
    states = parse_states(_SHOWN)
    assert states["system-state.mount"] == UnitState("system-state.mount", "loaded", "active", "enabled")
    assert states["luksctl-open@STATE.service"].active == "failed"
    assert not states["luksctl-check.timer"].present
    assert [state.present for state in states.values()] == [True, True, False]
    assert parse_states("") == {}


def test_what_a_boot_wants_is_a_list_of_units() -> None:
    """With marks in front of them or without, and an empty line."""
    shown = "default.target\n  database.service\n* ○ server@one.service\n\n"
    assert parse_wanted(shown) == {"default.target", "database.service", "server@one.service"}


@needs(Program("systemctl", "systemd"))
@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs here")
def test_without_systemd_nobody_answers() -> None:
    """In a container or a rescue shell there is nobody to ask."""
    with pytest.raises(DeviceError):
        unit_states(("system-state.mount",))


@needs(Program("systemctl", "systemd"))
@pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="no systemd runs here")
def test_a_unit_that_nobody_wrote_is_not_there() -> None:
    """It is in the answer all the same."""
    name = "luksctl-nobody-wrote-this.mount"
    assert not unit_states((name,))[name].present
