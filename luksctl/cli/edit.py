"""`luksctl edit machineconfig`: the config that rules, in an editor, until the node takes it or nobody wants it to."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.apply_config import add_mode, apply_and_tell, how_of
from luksctl.cli.context import Context
from luksctl.cli.editing import SOURCE, Editing
from luksctl.cli.parser import Parser
from luksctl.cli.running import NAMES, ruling, warn_of_waiting
from luksctl.config.documents import parse_machine_config
from luksctl.devices.editor import edit_file
from luksctl.node.get import holds
from luksctl.node.modes import Mode


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("what", metavar="machineconfig", choices=NAMES, help="the one thing there is to edit")
    add_mode(parser)


def run(arguments: Namespace, context: Context) -> int:
    """Edit the config; passphrases are shown, in a file that only its owner can read."""
    how, console, node = how_of(arguments), context.console, context.node()
    text, _ = ruling(node)
    warn_of_waiting(node, console)

    def take(edited: bytes) -> int:
        return apply_and_tell(parse_machine_config(edited, SOURCE), how, context)

    # Neither a dry run nor a trial leaves the text anywhere else.
    keep = how.dry_run or how.mode is Mode.TRY
    editing = Editing(node.paths.run_dir, edit_file, console.note)
    code = editing.run(text, take, keep=keep, held=lambda edited: holds(node, edited))
    if code is None:
        console.say("nothing was changed")
        console.document({"changed": False})
        return 0
    return code
