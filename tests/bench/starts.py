"""How long it takes to start: what a boot pays before anything is opened, and what an operator waits for each verb."""

from __future__ import annotations

from pathlib import Path

from tests.bench.images import node_directory
from tests.bench.measure import BARE_START_MS, Action, Figure, command, medians_ms, python

HOOK_GOAL_MS = 40.0
VERB_GOAL_MS = 80.0
_UNIT = f"ms where python -c pass takes {BARE_START_MS:.0f}"


def hook_start(directory: Path) -> Figure:
    """Measure the boot hook from its start to its first libcryptsetup call: settings, config, headers, plan."""
    node = str(node_directory(directory / "node"))
    return _scaled(
        "hook: start to first libcryptsetup call", python("-m", "tests.bench.hook_start", node), HOOK_GOAL_MS
    )


def version(_: Path) -> Figure:
    """Measure the shortest verb."""
    return _scaled("verb: luksctl --version", _luksctl("--version"), VERB_GOAL_MS)


def validate(_: Path) -> Figure:
    """Measure a verb that reads a machine config."""
    return _scaled("verb: luksctl validate", _luksctl("validate", "examples/machine.yaml"), VERB_GOAL_MS)


def _luksctl(*arguments: str) -> Action:
    return python("-c", "import sys; from luksctl.cli.main import run; sys.exit(run())", *arguments)


def _scaled(name: str, action: Action, goal_ms: float) -> Figure:
    bare, peer = "python -c pass", "cryptsetup --version"
    actions = {name: action, bare: python("-c", "pass"), peer: command(("cryptsetup", "--version"))}
    taken = medians_ms(actions)
    value = taken[name] * BARE_START_MS / taken[bare]
    return Figure(name, value, _UNIT, f"{peer}: {taken[peer] * BARE_START_MS / taken[bare]:.1f} ms", goal_ms)
