"""`luksctl disable`: take back exactly what enable wrote; volumes stay as they are."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.enable import add_root, show, target_of
from luksctl.cli.parser import Parser
from luksctl.node.enable import disable
from luksctl.wiring import unit_host


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    add_root(parser)


def run(arguments: Namespace, context: Context) -> int:
    """Disable."""
    show(disable(target_of(arguments.root, context), unit_host()), context.console)
    return 0
