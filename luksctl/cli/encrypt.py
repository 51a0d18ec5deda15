"""`luksctl encrypt VOLUME --in-place`: encrypt what is on a plain volume, which keeps its data."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.boot import open_now, show_reports
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.steps import described, step_fields
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.errors import NeedsReboot, UsageError
from luksctl.node.in_place import Target, announce, look_at
from luksctl.node.retry import start_mounts
from luksctl.units import format_size


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", help=" or ".join(MANAGED))
    parser.add_flag("in-place", text="keep what is on it")
    parser.add_flag("dry-run", text="show what would be done, and touch nothing")
    parser.add_flag("reboot", text="reboot afterwards, where the volume is in use")
    parser.add_flag("mount", text="have systemd mount the volume as well (default)", default=True)
    parser.add_flag("yes", text="do not ask")


def run(arguments: Namespace, context: Context) -> int:
    """Look, ask, announce; then do it, or leave it to the boot where the volume is in use."""
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
        console.document({"dryRun": True, **_fields(target)})
        return 0
    what = f"Everything on {volume} is written anew, encrypted; make sure that there is a backup"
    context.confirm(what, volume, yes=arguments.yes)
    announce(node, target)
    if target.holder is not None:
        console.say(f"{volume} is in use by {target.holder}: the next boot does it before the volume is mounted")
        console.document({"waitsFor": target.holder, "rebooting": arguments.reboot, **_fields(target)})
        if not arguments.reboot:
            return NeedsReboot.exit_code
        node.system.reboot()
        return 0
    report = open_now(node, volume)
    if arguments.mount:
        start_mounts(node, volume)
    show_reports([report], console)
    return 0


def _told(target: Target) -> str:
    if target.begun is not None:
        return f"{target.volume}: announced already, {target.begun.attempt} attempts so far"
    shrunk = ", which is shrunk for the header" if target.shrinks else ""
    size = format_size(target.extent.size_bytes)
    return f"{target.volume}: {target.device.path} holds {target.extent.kind} of {size}{shrunk}"


def _fields(target: Target) -> dict[str, object]:
    return {
        "volume": target.volume,
        "device": target.device.path,
        "filesystem": target.extent.kind or None,
        "filesystemBytes": target.extent.size_bytes,
        "shrinks": target.shrinks,
        "steps": [step_fields(step) for step in target.plan.steps],
    }
