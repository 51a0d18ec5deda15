"""How units are, as systemd tells it."""

from __future__ import annotations

from collections.abc import Sequence

from luksctl.devices.programs import Program, locate, run
from luksctl.hints import Final
from luksctl.value import frozen

_TIMEOUT_S: Final = 20.0
_PROPERTIES: Final = "--property=Id,LoadState,ActiveState,UnitFileState"


@frozen
class UnitState:
    """One unit in systemd's words: loaded or not-found, active or failed, enabled or disabled (empty: neither)."""

    name: str
    load: str
    active: str
    file: str = ""

    @property
    def present(self) -> bool:
        """Tell whether there is such a unit."""
        return self.load != "not-found"


def unit_states(names: Sequence[str]) -> dict[str, UnitState]:
    """Return the state of every unit of `names`, also of those that are not there; DeviceError without systemd."""
    shown = run([locate(Program("systemctl", "systemd")), "show", _PROPERTIES, "--", *names], timeout_s=_TIMEOUT_S)
    return parse_states(shown)


def parse_states(text: str) -> dict[str, UnitState]:
    """Return the units of `systemctl show`: blocks of property=value with an empty line between two units."""
    states = {}
    for block in text.split("\n\n"):
        fields = dict(line.partition("=")[::2] for line in block.splitlines())
        name = fields.get("Id", "")
        if name:
            states[name] = UnitState(
                name, fields.get("LoadState", ""), fields.get("ActiveState", ""), fields.get("UnitFileState", "")
            )
    return states
