"""A boot in a process of its own that is killed after so many steps: `killed_boot DIRECTORY STEPS`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from luksctl.reconcile.converge import converge
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, node_id, static


def main(directory: Path, steps: int) -> None:
    """Converge, and die without a word after `steps` steps."""
    node = Node(directory)
    run = converge(cheap_wish(encrypted(static(0), node_id(4))), node.volume_settings, node.ports)
    for number, _ in enumerate(run, start=1):
        if number == steps:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
