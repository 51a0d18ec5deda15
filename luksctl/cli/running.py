"""What edit and patch begin with: the text of the config that rules, and whether another one waits."""

from __future__ import annotations

from luksctl.cli.console import Console
from luksctl.errors import Maintenance
from luksctl.hints import Final
from luksctl.node.get import is_waiting, ruling_text
from luksctl.node.node import Node
from luksctl.node.trial import pending

NAMES: Final = ("machineconfig", "mc")


def ruling(node: Node) -> tuple[bytes, str]:
    """Return the text of the config that rules, right or wrong, and its name; Maintenance where there is none."""
    found = ruling_text(node)
    if found is None:
        raise Maintenance("the node has no machine config", hint="luksctl apply-config --insecure -f FILE")
    return found


def warn_of_waiting(node: Node, console: Console) -> None:
    """Say so where a config waits for the next boot or is on trial: what is applied now takes its place."""
    if is_waiting(node):
        console.note(
            "warning: a config waits for the next boot, and is dropped when this one is applied "
            "(luksctl get machineconfig persistent)"
        )
    if pending(node) is not None:
        console.note("warning: a config is on trial; this starts from the one in STATE, and ends the trial")
