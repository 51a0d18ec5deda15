"""`luksctl validate FILE`: every problem of a machine config at once; touches no device."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.sources import read_config
from luksctl.config.placement import expect_bootable
from luksctl.model.config import VolumeEncryption


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("file", metavar="FILE", help="the machine config; - for standard input")


def run(arguments: Namespace, context: Context) -> int:
    """Check the file; warnings go to standard error."""
    config = read_config(arguments.file)
    expect_bootable(config, context.settings)
    console = context.console
    for warning in config.warnings:
        console.note(f"{config.source}: warning: {warning}")
    console.say(f"{config.source}: valid")
    for volume, encryption in config.encryption:
        console.say(f"  {volume}: {_keys(encryption)}")
    console.document(
        {
            "valid": True,
            "file": config.source,
            "volumes": [
                {
                    "volume": volume,
                    "keys": [{"slot": key.slot, "kind": key.kind.value} for key in encryption.keys],
                    "cipher": encryption.cipher,
                }
                for volume, encryption in config.encryption
            ],
            "warnings": list(config.warnings),
        }
    )
    return 0


def _keys(encryption: VolumeEncryption) -> str:
    return ", ".join(f"slot {key.slot} {key.kind}" for key in encryption.keys)
