"""What the boot hook does from its start to its first libcryptsetup call; run in a process of its own.

Settings, config, META, both header copies of STATE, and the plan all come before that call.
"""

from __future__ import annotations

import sys

from luksctl.boot import hook
from luksctl.cryptsetup.keyslots import Keyslots
from luksctl.model.config import STATE
from luksctl.model.plan import Plan
from luksctl.node.node import Paths
from luksctl.node.sources import outside_config
from luksctl.reconcile.converge import look
from luksctl.reconcile.desire import desire
from luksctl.wiring import build_node, read_settings


def run(directory: str) -> Plan:
    """Look at STATE as `directory` describes it (tests.bench.images), call libcryptsetup once, and return the plan."""
    settings = read_settings(f"{directory}/luksctl.yaml")
    paths = Paths(run_dir=f"{directory}/run", machine_config=f"{directory}/machine.yaml", credential_dirs=())
    node = build_node(settings, hook.announce, paths)
    config = outside_config(node)
    if config is None:
        raise ValueError(f"no machine.yaml in {directory}")
    wanted = desire(STATE, config, memory_kib=node.system.memory_kib())
    found = look(wanted, settings.volume(STATE), node.ports)
    for key in wanted.encryption.keys if wanted.encryption is not None else ():
        node.ports.provider(key)
    Keyslots.count_limit()
    return found.plan


if __name__ == "__main__":
    run(sys.argv[1])
