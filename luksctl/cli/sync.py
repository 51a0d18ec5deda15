"""`luksctl sync`: make the keyslots those of the config, on a running node; `--dry-run` says what that would take.

Ends with 0 where all is in sync, with 8 where --dry-run lists steps, with 5 where something could not be brought in
sync, with 7 where only keys are left that the next boot makes.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.recovery import add_key_descriptor
from luksctl.cli.recovery_prompt import ask_recovery_key
from luksctl.cli.steps import described, slot_of, step_fields
from luksctl.cli.volumes import volumes_of
from luksctl.errors import Degraded, NeedsReboot, NotConverged, UsageError
from luksctl.node.sync import Synced, sync


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")
    parser.add_flag("recovery", text="with a recovery key, where no configured key can be had any more")
    add_key_descriptor(parser)
    parser.add_flag("dry-run", text="say what would be done; one key derivation for each volume, nothing is written")


def run(arguments: Namespace, context: Context) -> int:
    """Bring the keyslots in sync."""
    if arguments.key_fd is not None and not arguments.recovery:
        raise UsageError("--key-fd is for the recovery key", hint="luksctl sync --recovery --key-fd N")
    node, volumes = context.node(), volumes_of(arguments.volumes)
    if arguments.recovery:
        with ask_recovery_key(arguments.key_fd) as key:
            found = sync(node, volumes, dry_run=arguments.dry_run, recovery=key)
    else:
        found = sync(node, volumes, dry_run=arguments.dry_run)
    show(found, context)
    if any(synced.problems for synced in found):
        return Degraded.exit_code
    if any(synced.next_boot is not None for synced in found):
        return NeedsReboot.exit_code
    return NotConverged.exit_code if any(synced.planned for synced in found) else 0


def show(found: Sequence[Synced], context: Context) -> None:
    """Say how the keyslots of each volume are now."""
    console = context.console
    rows = [
        (synced.volume, type(step).__name__, _number(slot_of(step)), step.destroys.value, described(step))
        for synced in found
        for step in synced.planned
    ]
    if rows:
        console.table(("volume", "step", "slot", "destroys", "what"), rows)
    for synced in found:
        if synced.in_sync:
            console.say(f"{synced.volume}: {'in sync' if synced.adopted else 'opens; nobody adopted it'}")
        elif synced.next_boot is not None:
            console.say(f"{synced.volume}: {synced.next_boot}")
        elif not synced.problems:
            console.say(f"{synced.volume}: {len(synced.planned)} steps to do")
        for problem in synced.problems:
            console.note(f"luksctl: {synced.volume}: {problem}")
    console.document({"volumes": [_fields(synced) for synced in found]})


def _number(slot: int | None) -> str:
    return "" if slot is None else str(slot)


def _fields(synced: Synced) -> dict[str, object]:
    return {
        "volume": synced.volume,
        "inSync": synced.in_sync,
        "adopted": synced.adopted,
        "taken": [
            {**step_fields(done.step), "slot": done.slot, "detail": done.detail, "skipped": done.skipped}
            for done in synced.taken
        ],
        "planned": [step_fields(step) for step in synced.planned],
        "problems": list(synced.problems),
        "nextBoot": synced.next_boot,
    }
