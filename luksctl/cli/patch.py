"""`luksctl patch machineconfig -p PATCH …`: patch the config that rules, and have the node take it."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.apply_config import add_mode, apply_and_tell, how_of
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.patches import add_keys_by_slot, add_patches, in_file, patch_texts
from luksctl.cli.running import NAMES, ruling, warn_of_waiting
from luksctl.config.patching import apply_patches
from luksctl.errors import UsageError


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("what", metavar="machineconfig", choices=NAMES, help="the one thing there is to patch")
    add_patches(parser, "-p", "--patch")
    parser.add_sent(
        Takes.FILE,
        "--patch-file",
        metavar="FILE",
        action="append",
        default=[],
        help="a file with a patch, behind the others",
    )
    add_keys_by_slot(parser)
    add_mode(parser)


def run(arguments: Namespace, context: Context) -> int:
    """Patch the config and apply it; one that the patches leave as it is, is not applied."""
    words = [*arguments.patches, *map(in_file, arguments.patch_file)]
    if not words:
        raise UsageError("no patch", hint="-p PATCH, -p @FILE or --patch-file FILE")
    how, console, node = how_of(arguments), context.console, context.node()
    text, source = ruling(node)
    patched = apply_patches(text, source, patch_texts(words), keys_by_slot=arguments.keys_by_slot)
    config = patched.config()
    if config.text == text:
        for note in patched.notes:
            console.note(f"warning: {note}")
        console.say("nothing was changed")
        console.document({"changed": False})
        return 0
    warn_of_waiting(node, console)
    return apply_and_tell(config, how, context)
