"""How long it takes to start: what a boot pays before anything is opened, and what an operator waits for each verb."""

from __future__ import annotations

from pathlib import Path

from luksctl.model.config import EPHEMERAL, STATE
from tests.bench.images import converged_node, node_directory, two_volumes
from tests.bench.measure import BARE_START_MS, Action, Figure, command, medians_ms, python, unit_python

HOOK_GOAL_MS = 40.0
HOOK_CONFIG_GOAL_MS = 60.0
VERB_GOAL_MS = 80.0
STATUS_GOAL = 1.5
_HOOK_START = "from tests.bench.hook_start import main; main()"
# A node needs no settings file where its partitions have the usual labels, so none is read here either.
_STATUS = """
import sys
from luksctl import wiring
from luksctl.cli.main import main
from luksctl.model.config import ByImage, Settings, VolumeSettings
from luksctl.node.node import Paths

node, *volumes = sys.argv[1:]
places = tuple((name, VolumeSettings(ByImage(f"{node}/{name}"))) for name in ("META", "STATE", "EPHEMERAL"))
wiring.read_settings = lambda path: Settings(places)
main(["status", *volumes], Paths(f"{node}/run", machine_config=f"{node}/none", expected_encrypted=f"{node}/none"))
"""
_UNIT = f"ms where python -c pass takes {BARE_START_MS:.0f}"


def hook_start(directory: Path) -> Figure:
    """Measure the boot of an installed node up to its first libcryptsetup call: META, header copies, plan, key."""
    node = str(converged_node(directory / "node"))
    action = unit_python(_HOOK_START, "converged", node)
    return _scaled("hook: start to first libcryptsetup call", action, HOOK_GOAL_MS)


def hook_start_config(directory: Path) -> Figure:
    """Measure the same where a settings file and a machine config from outside are read first: two YAML texts."""
    node = str(node_directory(directory / "node"))
    action = unit_python(_HOOK_START, "config", node)
    return _scaled("hook with settings and config: start to first libcryptsetup call", action, HOOK_CONFIG_GOAL_MS)


def version(_: Path) -> Figure:
    """Measure the shortest verb."""
    return _scaled("verb: luksctl --version", _luksctl("--version"), VERB_GOAL_MS)


def validate(_: Path) -> Figure:
    """Measure a verb that reads a machine config."""
    return _scaled("verb: luksctl validate", _luksctl("validate", "examples/machine.yaml"), VERB_GOAL_MS)


def status_of_eight(directory: Path) -> Figure:
    """Measure status beside one luksDump for each volume; eight are reckoned from one and two, which are measured."""
    node = two_volumes(directory / "node")
    one, two, dump = "status of one volume", "status of two volumes", "cryptsetup luksDump"
    taken = medians_ms(
        {
            one: python("-c", _STATUS, str(node), STATE),
            two: python("-c", _STATUS, str(node), STATE, EPHEMERAL),
            dump: command((*dump.split(), str(node / STATE))),
        }
    )
    value = (taken[one] + 7 * (taken[two] - taken[one])) / (8 * taken[dump])
    peer = f"eight times {dump}: {8 * taken[dump]:.0f} ms; {one}: {taken[one]:.0f} ms, of two: {taken[two]:.0f} ms"
    return Figure("status of eight volumes (reckoned from one and two)", value, "times the peer", peer, STATUS_GOAL)


def _luksctl(*arguments: str) -> Action:
    return python("-c", "import sys; from luksctl.cli.main import run; sys.exit(run())", *arguments)


def _scaled(name: str, action: Action, goal_ms: float) -> Figure:
    bare, peer = "python -c pass", "cryptsetup --version"
    actions = {name: action, bare: python("-c", "pass"), peer: command(("cryptsetup", "--version"))}
    taken = medians_ms(actions)
    value = taken[name] * BARE_START_MS / taken[bare]
    return Figure(name, value, _UNIT, f"{peer}: {taken[peer] * BARE_START_MS / taken[bare]:.1f} ms", goal_ms)
