"""The machine configs that a node has: the one that rules, and the one that is or will be STATE's own. Reads only."""

from __future__ import annotations

from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.model.config import MachineConfig
from luksctl.node.config_view import config_view
from luksctl.node.node import Node
from luksctl.node.sources import parse_config, state_directory
from luksctl.node.staged import staged_config

ACTIVE: Final = "v1alpha1"
PERSISTENT: Final = "persistent"


def machine_config(node: Node, name: str) -> MachineConfig | None:
    """Return the config called ACTIVE, or PERSISTENT: the one that waits for the next boot, if there is one.

    None where there is no config. ConfigError where it is wrong, UsageError for another name.
    """
    if name not in (ACTIVE, PERSISTENT):
        raise UsageError(f"there is no machine config {name!r}", hint=f"{ACTIVE} or {PERSISTENT}")
    directory = state_directory(node)
    waiting = None if directory is None or name == ACTIVE else staged_config(directory)
    if waiting is not None:
        return parse_config(waiting.text, "the staged config", "staged.yaml")
    view = config_view(node)
    if view.problem is not None:
        raise view.problem
    return view.ruling
