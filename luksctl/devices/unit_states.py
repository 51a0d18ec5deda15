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
    return parse_states(_systemctl("show", _PROPERTIES, "--", *names))


def dependants(unit: str) -> tuple[str, ...]:
    """Return what this boot wants, what needs `unit`, directly or not, and is not running; DeviceError without systemd.

    systemd gives up such a unit for good when `unit` fails once, and does not start it when `unit` comes up after all.
    """
    needing: list[str] = []
    ahead = [unit]
    while ahead:
        shown = _systemctl("show", "--property=RequiredBy,BoundBy", "--value", "--", *ahead)
        ahead = [name for name in dict.fromkeys(shown.split()) if name not in needing]
        needing += ahead
    wanted = parse_wanted(_systemctl("list-dependencies", "--plain", "--no-pager", "default.target"))
    candidates = tuple(name for name in needing if name in wanted)
    if not candidates:
        return ()
    states = unit_states(candidates)
    return tuple(name for name in candidates if name in states and states[name].active in {"inactive", "failed"})


def parse_wanted(text: str) -> frozenset[str]:
    """Return the units of `systemctl list-dependencies`: one on each line, perhaps behind a mark."""
    return frozenset(words[-1] for line in text.splitlines() if (words := line.split()))


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


def _systemctl(*arguments: str) -> str:
    return run([locate(Program("systemctl", "systemd")), *arguments], timeout_s=_TIMEOUT_S)
