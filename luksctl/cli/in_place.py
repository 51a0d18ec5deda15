"""What `encrypt` and `decrypt` do alike once they know the volume: ask, announce, and do it or leave it to the boot."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from luksctl.cli.boot import open_now, show_reports
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import MANAGED
from luksctl.errors import NeedsReboot
from luksctl.node.node import Node
from luksctl.node.retry import start_mounts
from luksctl.value import frozen


@frozen
class Work:
    """What is to be done to one volume in place. `at_stake` is what the operator confirms, `holder` who uses it now.

    `announce` says it in META; `fields` are what --json shows of it.
    """

    volume: str
    at_stake: str
    holder: str | None
    announce: Callable[[], None]
    fields: dict[str, object]


def configure(parser: Parser) -> None:
    """Add the options that both verbs have."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))
    parser.add_flag("dry-run", text="show what would be done, and touch nothing")
    parser.add_flag("reboot", text="reboot afterwards, where the volume is in use")
    parser.add_flag("mount", text="have systemd mount the volume as well (default)", default=True)
    parser.add_flag("yes", text="do not ask")


def carry_out(node: Node, work: Work, arguments: Namespace, context: Context) -> int:
    """Ask, announce it, and begin; where the volume is in use, the next boot does, before it opens or mounts it."""
    console, volume = context.console, work.volume
    if arguments.dry_run:
        console.document({"dryRun": True, **work.fields})
        return 0
    context.confirm(work.at_stake, volume, yes=arguments.yes)
    work.announce()
    if work.holder is not None:
        console.say(f"{volume} is in use by {work.holder}: the next boot begins before anything is opened or mounted")
        console.document({"waitsFor": work.holder, "rebooting": arguments.reboot, **work.fields})
        if not arguments.reboot:
            return NeedsReboot.exit_code
        node.system.reboot()
        return 0
    report = open_now(node, volume)
    if arguments.mount:
        start_mounts(node, volume)
    show_reports([report], console)
    return 0


def attempts_told(volume: str, attempts: int) -> str:
    """Say that it was announced before, and how often it was tried."""
    return f"{volume}: announced already, {attempts} attempts so far"
