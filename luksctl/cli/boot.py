"""`luksctl boot VOLUME` or `--all`: open now what the boot would open. Units start luksctl-boot instead."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import MANAGED, volume_of
from luksctl.errors import UsageError
from luksctl.model.config import STATE
from luksctl.node.boot import open_volume
from luksctl.node.node import Node
from luksctl.node.report import Report
from luksctl.node.sources import state_directory
from luksctl.node.units import mount_unit
from luksctl.node.waiting import Deadline


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volume", metavar="VOLUME", nargs="?", help=" or ".join(MANAGED))
    parser.add_flag("all", text="STATE, its mount, then EPHEMERAL by STATE's own config")


def run(arguments: Namespace, context: Context) -> int:
    """Open the volumes; they are mounted by systemd."""
    if arguments.all == (arguments.volume is not None):
        raise UsageError("name one volume, or --all", hint="luksctl boot --all")
    volumes = MANAGED if arguments.all else (volume_of(arguments.volume),)
    node = context.node()
    reports: list[Report] = []
    for volume in volumes:
        reports.append(open_now(node, volume))
        if arguments.all and volume == STATE:
            _mount_state(node)
    show_reports(reports, context.console)
    return 0


def open_now(node: Node, volume: str) -> Report:
    """Run the stage of `volume` with a full deadline of its own: the boot's may be long gone."""
    return open_volume(node, volume, Deadline(node, node.system.monotonic_s() + node.settings.timeouts.hook_s))


def show_reports(reports: list[Report], console: Console) -> None:
    """Say how each volume is now."""
    for report in reports:
        by = f", opened {report.opened_by}" if report.opened_by else ""
        console.say(f"{report.volume} is {report.state} ({report.device}){by}")
        for note in report.notes:
            console.note(f"{report.volume}: {note}")
    console.document({"volumes": [report_fields(report) for report in reports]})


def report_fields(report: Report) -> dict[str, object]:
    """Return the report as plain values for JSON."""
    return {
        "volume": report.volume,
        "state": report.state.value,
        "device": report.device,
        "openedBy": report.opened_by,
        "slot": report.slot,
        "configSource": report.config_source,
        "notes": list(report.notes),
    }


def _mount_state(node: Node) -> None:
    mount_point = node.settings.volume(STATE).mount_point
    if mount_point is not None and state_directory(node) is None:
        node.system.start_unit(mount_unit(mount_point))
