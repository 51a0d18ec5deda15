"""`luksctl apply-config -f FILE`: give the node its first config (--insecure), a newer one, or one that only opens.

On a running node --mode says how. Ends with 5 where keys could not follow, with 7 where only the next boot can make
some.
"""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.patches import add_keys_by_slot, add_patches, read_patched
from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.model.config import MachineConfig
from luksctl.node.apply_config import Applied, Condition, apply_config
from luksctl.node.modes import How, Mode
from luksctl.node.running_config import Taken
from luksctl.units import parse_duration_s

_SAID: Final = {
    Condition.MAINTENANCE: "the first config of this node: stored in STATE",
    Condition.LOCKED: "this node was locked: the config was used to open it, and was not stored",
    Condition.RUNNING: "stored in STATE",
}
_NAMES: Final = ("machineconfig", "mc", "config")
_DAY_S: Final = 86400.0


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument(
        "what", metavar="machineconfig", nargs="?", choices=_NAMES, help="the one thing there is to apply"
    )
    parser.add_sent(
        Takes.FILE, "-f", "--file", metavar="FILE", required=True, help="the machine config; - for standard input"
    )
    add_patches(parser, "-p", "--config-patch")
    add_keys_by_slot(parser)
    parser.add_flag("insecure", "-i", text="the node has no config yet, and takes its first one without proof")
    add_mode(parser)


def add_mode(parser: Parser) -> None:
    """Add the options that say how a running node takes a config."""
    modes = tuple(mode.value for mode in Mode)
    parser.add_argument(
        "-m",
        "--mode",
        metavar="MODE",
        choices=modes,
        default=Mode.AUTO.value,
        help=f"{', '.join(modes)} (default auto)",
    )
    parser.add_argument(
        "--timeout", metavar="TIME", default="1m", help="with --mode=try: when it is taken back (default 1m)"
    )
    parser.add_flag("strict-talos", text="decide about reboots by the rule of Talos 1.7 alone: keys need one, too")
    parser.add_flag("dry-run", text="say what would be done, slot by slot, and write nothing")


def how_of(arguments: Namespace) -> How:
    """Return what the options say; UsageError where they make no sense."""
    try:
        timeout_s = parse_duration_s(arguments.timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}", hint="for example 30s, 5m or 1h") from error
    if not 1 <= timeout_s <= _DAY_S:
        raise UsageError("--timeout must be between one second and one day")
    return How(Mode(arguments.mode), arguments.strict_talos, arguments.dry_run, timeout_s)


def run(arguments: Namespace, context: Context) -> int:
    """Apply the config as the condition of the node, and the mode, allow."""
    how = how_of(arguments)
    config = read_patched(arguments.file, arguments)
    return apply_and_tell(config, how, context, insecure=arguments.insecure)


def apply_and_tell(config: MachineConfig, how: How, context: Context, *, insecure: bool = False) -> int:
    """Apply `config`, and say what became of it."""
    console = context.console
    for warning in config.warnings:
        console.note(f"{config.source}: warning: {warning}")
    applied = apply_config(context.node(), config, insecure=insecure, how=how)
    document: dict[str, object] = {
        "condition": applied.condition.value,
        "stored": applied.stored,
        "notes": list(applied.notes),
        "warnings": list(config.warnings),
    }
    if applied.taken is not None:
        document |= _taken_fields(applied.taken)
    if how.dry_run and applied.taken is not None:
        from luksctl.cli.dry_run import diff_of, show_dry_run  # noqa: PLC0415  # only for those who ask

        diff = diff_of(applied.taken.before, config.text)
        document |= {"dryRun": True, "diff": diff}
        show_dry_run(applied.taken, diff, console)
    else:
        console.say(_said(applied, how))
    for note in applied.notes:
        console.say(note)
    console.document(document)
    return 0


def _said(applied: Applied, how: How) -> str:
    taken = applied.taken
    if taken is None:
        return _SAID[applied.condition]
    match taken.mode:
        case Mode.REBOOT:
            because = f", because of {', '.join(taken.rebooting)}" if taken.rebooting else ""
            return f"stored for the next boot, and the node reboots{because}"
        case Mode.STAGED:
            return "stored for the next boot"
        case Mode.TRY:
            return (
                f"on trial, and taken back in {how.timeout_s:.0f} s or by a reboot, whichever comes first; "
                "to keep it: luksctl apply-config -f FILE"
            )
        case _:
            return f"{_SAID[Condition.RUNNING]}, without a reboot"


def _taken_fields(taken: Taken) -> dict[str, object]:
    return {"mode": taken.mode.value, "needsReboot": list(taken.rebooting)}
