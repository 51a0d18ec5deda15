"""`luksctl apply-config -f FILE`: give the node its first config (--insecure), a newer one, or one that only opens."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.patches import add_keys_by_slot, add_patches, read_patched
from luksctl.hints import Final
from luksctl.node.apply_config import Condition, apply_config

_SAID: Final = {
    Condition.MAINTENANCE: "the first config of this node: stored in STATE",
    Condition.LOCKED: "this node was locked: the config was used to open it, and was not stored",
    Condition.RUNNING: "stored in STATE",
}


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("-f", "--file", metavar="FILE", required=True, help="the machine config; - for standard input")
    add_patches(parser, "-p", "--config-patch")
    add_keys_by_slot(parser)
    parser.add_flag("insecure", text="the node has no config yet, and takes its first one without proof")


def run(arguments: Namespace, context: Context) -> int:
    """Apply the config as the condition of the node allows."""
    config = read_patched(arguments.file, arguments)
    console = context.console
    for warning in config.warnings:
        console.note(f"{config.source}: warning: {warning}")
    applied = apply_config(context.node(), config, insecure=arguments.insecure)
    console.say(_SAID[applied.condition])
    for note in applied.notes:
        console.say(note)
    console.document(
        {
            "condition": applied.condition.value,
            "stored": applied.stored,
            "notes": list(applied.notes),
            "warnings": list(config.warnings),
        }
    )
    return 0
