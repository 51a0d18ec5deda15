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
from luksctl.cli import volumes
from luksctl.cli.context import Context
from luksctl.cli.main import run
from luksctl.model.config import ByImage, Settings, VolumeSettings
from luksctl.node.node import Paths

node = sys.argv.pop(1)
places = tuple((name, VolumeSettings(ByImage(f"{node}/{name}"))) for name in ("META", "STATE", "EPHEMERAL"))
Context.settings = lambda self: Settings(places)
volumes.volumes_of = tuple
run(paths=Paths(f"{node}/run", machine_config=f"{node}/none", expected_encrypted=f"{node}/none"))
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
    """Measure one status of eight volumes beside eight luksDump processes.

    A node has two, so each is asked for four times: nothing that was read for one is kept for the next.
    """
    node = two_volumes(directory / "node")
    volumes = (STATE, EPHEMERAL) * 4
    status, dumps = "status of eight volumes", "eight times cryptsetup luksDump"
    dump = [command(("cryptsetup", "luksDump", str(node / volume))) for volume in volumes]

    def dump_each() -> None:
        for one in dump:
            one()

    taken = medians_ms({status: python("-c", _STATUS, str(node), "status", *volumes), dumps: dump_each})
    peer = f"{dumps}: {taken[dumps]:.0f} ms, ours: {taken[status]:.0f} ms"
    return Figure(status, taken[status] / taken[dumps], "times the peer", peer, STATUS_GOAL)


def _luksctl(*arguments: str) -> Action:
    return python("-c", "import sys; from luksctl.cli.main import run; sys.exit(run())", *arguments)


def _scaled(name: str, action: Action, goal_ms: float) -> Figure:
    bare, peer = "python -c pass", "cryptsetup --version"
    actions = {name: action, bare: python("-c", "pass"), peer: command(("cryptsetup", "--version"))}
    taken = medians_ms(actions)
    value = taken[name] * BARE_START_MS / taken[bare]
    return Figure(name, value, _UNIT, f"{peer}: {taken[peer] * BARE_START_MS / taken[bare]:.1f} ms", goal_ms)
