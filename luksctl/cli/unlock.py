"""`luksctl unlock VOLUME --recovery`: open a volume by hand, when no configured key does."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.boot import show_reports
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.recovery import add_key_descriptor
from luksctl.cli.recovery_prompt import ask_recovery_key
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.errors import UsageError
from luksctl.node.recovery import luks2
from luksctl.node.retry import start_mounts
from luksctl.node.unlock import open_already, unlock


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))
    parser.add_flag("recovery", text="with a recovery key")
    add_key_descriptor(parser)
    parser.add_flag("mount", text="have systemd mount the volume as well (default)", default=True)


def run(arguments: Namespace, context: Context) -> int:
    """Ask for the key, open the volume, and have it mounted."""
    if not arguments.recovery:
        hint = "configured keys: luksctl boot VOLUME; a recovery key: luksctl unlock VOLUME --recovery"
        raise UsageError("nothing is said to unlock with", hint=hint)
    node, volume = context.node(), volume_of(arguments.volume)
    unlocked = open_already(node, volume)
    if unlocked is None:
        luks2(node, volume)  # what has no keyslots asks nobody to type 65 characters
        with ask_recovery_key(arguments.key_fd) as key:
            unlocked = unlock(node, volume, key)
    else:
        context.console.note(f"{volume} is open already; no key was asked for")
    if arguments.mount:
        start_mounts(node, volume)
    show_reports([unlocked.report], context.console)
    return 0
