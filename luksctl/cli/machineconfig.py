"""`luksctl machineconfig patch FILE -p PATCH …`: patch a machine config on any machine; touches no device."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.output import write_output
from luksctl.cli.parser import Parser
from luksctl.cli.patches import add_keys_by_slot, add_patches, read_patched


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    patch = parser.add_command("patch", text="the config with patches applied, everything else as it was")
    patch.add_argument("file", metavar="FILE", help="the machine config; - for standard input")
    add_patches(patch, "-p", "--patch")
    add_keys_by_slot(patch)
    patch.add_argument(
        "-o", "--output", metavar="FILE", help="write it there; a new file is readable by its owner alone"
    )


def run(arguments: Namespace, context: Context) -> int:
    """Patch the file; nothing is written where a patch does not apply, or the result is not valid."""
    config = read_patched(arguments.file, arguments)
    console = context.console
    for warning in config.warnings:
        console.note(f"{config.source}: warning: {warning}")
    path: str | None = arguments.output
    if path is None:
        console.document({"config": config.text.decode(), "warnings": list(config.warnings)})
        if not console.json:
            console.raw(config.text)
        return 0
    write_output(path, config.text)
    console.say(f"{path}: written")
    console.document({"file": path, "patches": len(arguments.patches), "warnings": list(config.warnings)})
    return 0
