"""`luksctl install DISK`: META, STATE and EPHEMERAL on a blank disk, or on one that --erase names."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.devices.layout import PlannedPartition
from luksctl.devices.partition import Installed
from luksctl.model.config import Settings
from luksctl.node.install import record_partitions, settings_on
from luksctl.units import format_size
from luksctl.wiring import installer, meta_store


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("disk", metavar="DISK", help="a whole disk, or an image file")
    parser.add_argument("--erase", metavar="DISK", help="the same disk again: destroy everything on it")
    parser.add_flag("yes", text="do not ask before erasing")


def run(arguments: Namespace, context: Context) -> int:
    """Show the layout, and write it."""
    disk, erase, console = arguments.disk, arguments.erase, context.console
    settings = context.settings()
    partitioner = installer(settings, console.note)
    planned = partitioner.plan(disk, erase=erase)
    _show(planned, console)
    if erase is not None:
        context.confirm(f"Everything that is on {disk} now will be gone", disk, yes=arguments.yes)
    installed = partitioner.install(disk, erase=erase)
    recorded = _record(installed, settings, console)
    console.say(f"{installed.disk}: installed; next: luksctl enable, and a machine config (luksctl gen config)")
    console.document(
        {
            "disk": installed.disk,
            "diskUUID": installed.disk_uuid,
            "recorded": recorded,
            "partitions": [
                {
                    "number": entry.number,
                    "name": entry.name,
                    "partuuid": entry.uuid,
                    "offsetBytes": entry.offset_bytes,
                    "sizeBytes": entry.size_bytes,
                }
                for entry in installed.partitions
            ],
        }
    )
    return 0


def _show(planned: Sequence[PlannedPartition], console: Console) -> None:
    rows = [(str(part.number), part.name, str(part.offset_bytes), format_size(part.size_bytes)) for part in planned]
    console.table(("partition", "name", "offset", "size"), rows)


def _record(installed: Installed, settings: Settings, console: Console) -> bool:
    """Record the partitions in META; the partitions of an image file are nobody's until a machine boots from it."""
    if not installed.disk.startswith("/dev/"):
        console.note(f"{installed.disk} is an image file: the first boot from it records its partitions in META")
        return False
    console.note("recording the partitions in META")
    record_partitions(meta_store(settings_on(settings, installed.disk)), installed.partitions)
    return True
