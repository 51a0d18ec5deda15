"""Which machine config rules this node now, and what became of the others. Reads only."""

from __future__ import annotations

import os

from luksctl.errors import ConfigError
from luksctl.model.config import MachineConfig
from luksctl.node.node import Node
from luksctl.node.sources import STAGED_NAME, outside_config, state_directory, stored_config
from luksctl.value import frozen


@frozen
class ConfigView:
    """`ruling` is the config by which the node runs or would boot; None with `problem` set where it is wrong.

    `state_mounted` tells whether STATE is mounted, `stored` whether the ruling config is STATE's own. `notes` say what
    became of a config outside STATE.
    """

    ruling: MachineConfig | None
    problem: ConfigError | None
    state_mounted: bool
    stored: bool
    notes: tuple[str, ...] = ()


def config_view(node: Node) -> ConfigView:
    """Look at STATE's own config and at those outside it, in the order in which a boot would."""
    outside: MachineConfig | None = None
    outside_problem: ConfigError | None = None
    try:
        outside = outside_config(node)
    except ConfigError as problem:
        outside_problem = problem
    directory = state_directory(node)
    if directory is None:
        return ConfigView(outside, outside_problem, state_mounted=False, stored=False)
    waiting = _waiting(directory)
    try:
        stored = stored_config(directory)
    except ConfigError as problem:
        return ConfigView(None, problem, state_mounted=True, stored=True, notes=waiting)
    if stored is None:
        return ConfigView(outside, outside_problem, state_mounted=True, stored=False, notes=waiting)
    notes = (*waiting, *_ignored(stored, outside, outside_problem))
    return ConfigView(stored, None, state_mounted=True, stored=True, notes=notes)


def _waiting(directory: str) -> tuple[str, ...]:
    waits = os.path.exists(os.path.join(directory, STAGED_NAME))
    return ("a machine config waits for the next boot, which follows it",) if waits else ()


def _ignored(stored: MachineConfig, outside: MachineConfig | None, problem: ConfigError | None) -> tuple[str, ...]:
    if problem is not None:
        return (f"a config outside STATE is wrong and is ignored: {problem}",)
    if outside is None:
        return ()
    if outside.text == stored.text:
        return (f"{outside.source} is ignored, and is the same as STATE's own config",)
    return (f"{outside.source} is ignored, and differs from STATE's own config",)
