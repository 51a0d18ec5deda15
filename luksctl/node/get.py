"""The machine configs that a node has: the one that rules, and the one that is or will be STATE's own. Reads only."""

from __future__ import annotations

from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.model.config import MachineConfig
from luksctl.node.config_view import config_view
from luksctl.node.node import Node
from luksctl.node.sources import outside_text, parse_config, state_directory, stored_text
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


def ruling_text(node: Node) -> tuple[bytes, str] | None:
    """Return the config that rules as it is, right or wrong, and its name; None where there is none."""
    directory = state_directory(node)
    stored = None if directory is None else stored_text(directory)
    found = outside_text(node) if stored is None else stored
    return None if found is None else (found[0], found[1])


def is_waiting(node: Node) -> bool:
    """Tell whether a config waits for the next boot."""
    directory = state_directory(node)
    return directory is not None and staged_config(directory) is not None


def holds(node: Node, text: bytes) -> bool:
    """Tell whether STATE holds `text` as its own config, or as the one that waits."""
    directory = state_directory(node)
    if directory is None:
        return False
    stored, waiting = stored_text(directory), staged_config(directory)
    return text in {None if stored is None else stored[0], None if waiting is None else waiting.text}
