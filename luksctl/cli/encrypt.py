"""`luksctl encrypt VOLUME --in-place`: encrypt what is on a plain volume, which keeps its data."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli import in_place
from luksctl.cli.context import Context
from luksctl.cli.in_place import Work, attempts_told, carry_out
from luksctl.cli.parser import Parser
from luksctl.cli.steps import described, step_fields
from luksctl.cli.volumes import volume_of
from luksctl.errors import UsageError
from luksctl.node.in_place import Target, announce, look_at
from luksctl.units import format_size


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    in_place.configure(parser)
    parser.add_flag("in-place", text="keep what is on it")


def run(arguments: Namespace, context: Context) -> int:
    """Look, say what would be done, and do it."""
    volume = volume_of(arguments.volume)
    if not arguments.in_place:
        hint = f"keeping its data: luksctl encrypt {volume} --in-place; without it: luksctl reset"
        raise UsageError("nothing is said to become of what is on it", hint=hint)
    node, console = context.node(), context.console
    target = look_at(node, volume)
    console.say(_told(target))
    if arguments.dry_run:
        for step in target.plan.steps:
            console.say(f"  {described(step)}")
    at_stake = f"Everything on {volume} is written anew, encrypted; make sure that there is a backup"
    work = Work(volume, at_stake, target.holder, lambda: announce(node, target), _fields(target))
    return carry_out(node, work, arguments, context)


def _told(target: Target) -> str:
    if target.begun is not None:
        return attempts_told(target.volume, target.begun.attempt)
    shrunk = ", which is shrunk for the header" if target.shrinks else ""
    size = format_size(target.extent.size_bytes)
    return f"{target.volume}: {target.device.path} holds {target.extent.kind} of {size}{shrunk}"


def _fields(target: Target) -> dict[str, object]:
    return {
        "volume": target.volume,
        "device": target.device.path,
        "announced": target.begun is not None,
        "filesystem": target.extent.kind or None,
        "filesystemBytes": target.extent.size_bytes,
        "shrinks": target.shrinks,
        "steps": [step_fields(step) for step in target.plan.steps],
    }
