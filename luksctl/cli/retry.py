"""`luksctl retry VOLUME`: after the cause is mended, give an interrupted format new attempts, and open the volume."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.boot import open_now, show_reports
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.node.attempts import allow_again, drop_intent
from luksctl.node.node import Node
from luksctl.node.retry import start_mounts


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))
    parser.add_flag(
        "drop-intent",
        text="forget that the volume was being formatted or erased, and open nothing: what is on it counts as it is",
    )
    parser.add_flag("yes", text="do not ask")
    parser.add_flag("mount", text="have systemd mount the volume as well (default)", default=True)


def run(arguments: Namespace, context: Context) -> int:
    """Reset the attempts and open, or drop the intent."""
    volume = volume_of(arguments.volume)
    node = context.node()
    if arguments.drop_intent:
        return _drop(node, volume, context, yes=arguments.yes)
    before = allow_again(node, volume)
    if before is None:
        context.console.note(f"{volume}: neither a format nor a reset is announced; opening it")
    else:
        context.console.note(f"{volume}: {before.attempt} attempts so far, starting again at the first")
    report = open_now(node, volume)
    if arguments.mount:
        start_mounts(node, volume)
    show_reports([report], context.console)
    return 0


def _drop(node: Node, volume: str, context: Context, *, yes: bool) -> int:
    console = context.console
    if node.ports.meta.load().record.intent(volume) is None:
        console.say(f"{volume}: neither a format nor a reset is announced; nothing was changed")
        console.document({"volume": volume, "dropped": False})
        return 0
    what = f"Without its announcement, what a format or reset left on {volume} is foreign data that stays refused"
    context.confirm(what, volume, yes=yes)
    drop_intent(node, volume)
    console.say(f"{volume}: the announcement is gone; see: luksctl plan {volume}")
    console.document({"volume": volume, "dropped": True})
    return 0
