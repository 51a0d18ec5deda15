"""`luksctl reboot`: have systemd reboot the machine, and say what the boot will do that somebody left to it."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.node.next_boot import left_to_the_next_boot


def configure(parser: Parser) -> None:
    """Add the options of the verb, of which there are none."""


def run(arguments: Namespace, context: Context) -> int:  # noqa: ARG001  # there is nothing to choose
    """Look at what is left to the boot, and reboot."""
    node, console = context.node(), context.console
    left = left_to_the_next_boot(node)
    node.system.reboot()
    console.say("the node reboots")
    for what in left:
        console.say(what)
    console.document({"rebooting": True, "nextBoot": list(left)})
    return 0
