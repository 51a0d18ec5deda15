"""`luksctl reset`: erase volumes of this node, with proof; options and their meaning are those of Talos.

Without --reboot and --shutdown the machine is left running, since it is not luksctl's: what is still in use then is
erased by the next boot, and the verb ends with 7.
"""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.steps import described, step_fields
from luksctl.cli.wipe import show_doomed
from luksctl.errors import LuksctlError, NeedsReboot, UsageError
from luksctl.hints import Final
from luksctl.model.config import META
from luksctl.model.intent import EraseMethod
from luksctl.model.step import Step
from luksctl.node import wipe
from luksctl.node.letting_go import LettingGo
from luksctl.node.node import Node, System
from luksctl.node.reset import ERASED, LABELS, Outcome, Target, announce, erase_announced, look_at
from luksctl.node.waiting import Deadline
from luksctl.reconcile.plan_reset import steps_of_reset
from luksctl.units import format_size, parse_duration_s
from luksctl.wiring import reset_host, wipe_host

_MODES: Final = ("all", "system-disk", "user-disks")
_ALL, _SYSTEM, _USER = _MODES


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    labels, devices = ", ".join(LABELS), "disks or partitions that no volume uses"
    parser.add_list("system-labels-to-wipe", metavar="LABEL", text=f"of {labels}; all of them without any", default=())
    parser.add_argument("--wipe-mode", choices=_MODES, default=_ALL, help="what may be erased; all without any")
    parser.add_list("user-disks-to-wipe", metavar="DEVICE", text=f"also erase these {devices}", default=())
    parser.add_flag("graceful", text="first run hooks and unmount, as far as it works (default)", default=True)
    parser.add_argument("--timeout", default="5m", metavar="TIME", help="how long that may take; 5m without any")
    parser.add_flag("zero", text="overwrite every byte; what was interrupted goes on where it was")
    parser.add_flag("reboot", text="reboot afterwards")
    parser.add_flag("shutdown", text="switch the machine off afterwards")
    parser.add_flag("dry-run", text="show what would be erased, and touch nothing")
    parser.add_argument("--record", metavar="DIRECTORY", help="write the erasure records here")
    parser.add_flag("yes", text="do not ask")


def run(arguments: Namespace, context: Context) -> int:
    """Show what would be erased, ask, announce it, let go of it, erase it, and reboot."""
    volumes, disks = _wanted(arguments)
    timeout_s = _timeout_s(arguments.timeout)
    console, node, method = context.console, context.node(), EraseMethod.FAST
    if arguments.zero:
        method = EraseMethod.ZEROES
    named = bool(arguments.system_labels_to_wipe)
    targets = look_at(node, volumes, method, named=named) if volumes else ()
    doomed = tuple(wipe.look_at(node, wipe_host(), path) for path in disks)
    _show(targets, context)
    show_doomed(doomed, console)
    if arguments.dry_run:
        return _dry_run(node, targets, doomed, context)
    names = ",".join((*(target.volume for target in targets), *(each.device.path for each in doomed)))
    context.confirm(f"Everything on {names.replace(',', ', ')} will be gone", names, yes=arguments.yes)
    if targets:
        announce(node, targets)
    if arguments.graceful and targets:
        deadline = Deadline(node, node.system.monotonic_s() + timeout_s)
        mounted = tuple(volume for volume in ERASED if volume in volumes)
        LettingGo(node, reset_host(), deadline).let_go(mounted)
    outcomes = erase_announced(node, records=arguments.record) if targets else ()
    erasures = tuple(wipe.wiped(node, wipe_host(), each, method, arguments.record) for each in doomed)
    for outcome in outcomes:
        console.say(_told(outcome))
    for erasure in erasures:
        console.say(f"{erasure.volume}: erased, {erasure.verification}")
    console.document(
        {
            "volumes": [_fields(outcome) for outcome in outcomes],
            "disks": [erasure.fields() for erasure in erasures],
            "rebooting": arguments.reboot,
        }
    )
    return _end(arguments, outcomes, node.system)


def _wanted(arguments: Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return labels and disks; UsageError for what contradicts itself, as Talos has it."""
    labels, disks, mode = arguments.system_labels_to_wipe, arguments.user_disks_to_wipe, arguments.wipe_mode
    unknown = [label for label in labels if label not in LABELS]
    if unknown:
        raise UsageError(f"no such label: {', '.join(unknown)}", hint=f"the labels are {', '.join(LABELS)}")
    if labels and mode == _USER:
        raise UsageError("labels are given, and --wipe-mode user-disks erases no volume")
    if disks and mode == _SYSTEM:
        raise UsageError("user disks are given, and --wipe-mode system-disk erases none")
    if mode == _USER and not disks:
        raise UsageError("--wipe-mode user-disks, and no --user-disks-to-wipe")
    if arguments.reboot and arguments.shutdown:
        raise UsageError("--reboot and --shutdown at once")
    volumes = () if mode == _USER else tuple(label for label in LABELS if label in labels or not labels)
    return volumes, tuple(disks)


def _timeout_s(text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise UsageError(f"--timeout {text}: {error}", hint="write it as 90s or 5m") from error


def _show(targets: tuple[Target, ...], context: Context) -> None:
    rows = [
        (
            target.volume,
            target.device.path,
            format_size(target.device.size_bytes),
            target.what,
            target.was or "-",
            target.found.holder or "-",
        )
        for target in targets
    ]
    context.console.table(("volume", "device", "size", "what is on it", "uuid", "in use by"), rows)


def _dry_run(node: Node, targets: tuple[Target, ...], doomed: tuple[wipe.Doomed, ...], context: Context) -> int:
    planned = [(target, _planned(node, target)) for target in targets]
    for target, (steps, waits) in planned:
        context.console.say(f"{target.volume}:")
        for step in steps:
            context.console.say(f"  {described(step)}")
        if target.volume == META:
            context.console.say("  write META anew, with nothing in it, after the others")
        if waits is not None:
            context.console.say(f"  {waits}")
    context.console.document(
        {
            "dryRun": True,
            "volumes": [
                {
                    "volume": target.volume,
                    "device": target.device.path,
                    "sizeBytes": target.device.size_bytes,
                    "what": target.what,
                    "uuid": target.was or None,
                    "inUseBy": target.found.holder,
                    "steps": [step_fields(step) for step in steps],
                    "waits": waits,
                }
                for target, (steps, waits) in planned
            ],
            "disks": [{"device": each.device.path, "what": each.what} for each in doomed],
        }
    )
    return 0


def _planned(node: Node, target: Target) -> tuple[tuple[Step, ...], str | None]:
    if target.volume == META:
        return (), None
    try:
        steps = steps_of_reset(target.found, node.ports.meta.load())
    except NeedsReboot as error:
        return (), f"{error.cause}: the next boot erases it"
    except LuksctlError as error:
        return (), error.cause
    waits = None if target.found.holder is None else "unless it can be unmounted before, the next boot erases the rest"
    return steps, waits


def _told(outcome: Outcome) -> str:
    record = "" if outcome.record_path is None else f"; record: {outcome.record_path}"
    if outcome.waits is not None:
        begun = "header and keys are destroyed; " if outcome.erasure is not None else ""
        return f"{outcome.volume}: {begun}the next boot finishes it ({outcome.waits.cause}){record}"
    how = "" if outcome.erasure is None else f", {outcome.erasure.verification}"
    return f"{outcome.volume}: erased{how}{record}"


def _fields(outcome: Outcome) -> dict[str, object]:
    return {
        "volume": outcome.volume,
        "erased": outcome.waits is None,
        "waitsFor": None if outcome.waits is None else outcome.waits.cause,
        "record": None if outcome.erasure is None else outcome.erasure.fields(),
        "recordFile": outcome.record_path,
    }


def _end(arguments: Namespace, outcomes: tuple[Outcome, ...], system: System) -> int:
    if arguments.reboot:
        system.reboot()
        return 0
    if arguments.shutdown:
        system.power_off()
        return 0
    return NeedsReboot.exit_code if any(outcome.waits is not None for outcome in outcomes) else 0
