"""`luksctl wipe disk DEVICE…`: erase what no volume of this node uses, with proof."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, split_words
from luksctl.model.intent import EraseMethod
from luksctl.node.wipe import Doomed, look_at, wiped
from luksctl.units import format_size
from luksctl.wiring import wipe_host


def configure(parser: Parser) -> None:
    """Add the command and its options."""
    disk = parser.add_command("disk", text="erase disks, partitions or image files that no volume of this node uses")
    disk.add_argument("devices", metavar="DEVICE", nargs="+", help="what to erase; all are looked at before the first")
    methods = [method.value for method in EraseMethod]
    text = "fast: keys, headers and both ends, then discarded; zeroes: every byte"
    disk.add_argument("--method", choices=methods, default=EraseMethod.FAST.value, help=text)
    disk.add_argument("--record", metavar="DIRECTORY", help="write the erasure records here")
    disk.add_flag("yes", text="do not ask")


def run(arguments: Namespace, context: Context) -> int:
    """Look at all devices, ask, and erase one after the other."""
    node, host, console = context.node(), wipe_host(), context.console
    method = EraseMethod(arguments.method)
    doomed = tuple(look_at(node, host, path) for path in split_words(arguments.devices))
    show_doomed(doomed, console)
    names = ",".join(each.device.path for each in doomed)
    context.confirm(f"Everything on {names.replace(',', ', ')} will be gone", names, yes=arguments.yes)
    erasures = []
    for each in doomed:
        erasures.append(wiped(node, host, each, method, arguments.record))
        console.say(f"{each.device.path}: erased, {erasures[-1].verification}")
    console.document({"disks": [erasure.fields() for erasure in erasures]})
    return 0


def show_doomed(doomed: Sequence[Doomed], console: Console) -> None:
    """Show what would be erased."""
    if doomed:
        rows = [(each.device.path, format_size(each.device.size_bytes), each.what, each.was or "-") for each in doomed]
        console.table(("device", "size", "what is on it", "uuid"), rows)
