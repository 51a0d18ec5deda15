"""`luksctl check`: prove every configured key against its keyslot; opens and changes nothing.

Ends with 0 where every key works; 5 where a volume has keys that work and keys that do not; where none of a volume's
keys works with 4, or 6 if a provider may come back; and with the code of what kept its keys from being tried.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import volumes_of
from luksctl.node.check import WELL, KeyCheck, NodeCheck, VolumeCheck, check


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")


def run(arguments: Namespace, context: Context) -> int:
    """Try the keys, and say how each one did."""
    result = check(context.node(), volumes_of(arguments.volumes))
    context.console.document(check_fields(result))
    _show(result, context.console)
    return result.exit_code


def check_fields(result: NodeCheck) -> dict[str, object]:
    """Return the result as plain values for JSON."""
    return {
        "exitCode": result.exit_code,
        "volumes": [_volume(volume) for volume in result.volumes],
        "kept": result.kept,
        "notKept": result.not_kept,
    }


def _volume(volume: VolumeCheck) -> dict[str, object]:
    return {
        "volume": volume.volume,
        "configSource": volume.source or None,
        "exitCode": volume.exit_code,
        "problem": None if volume.problem is None else volume.problem.fields(),
        "keys": [_key(key) for key in volume.keys],
    }


def _key(key: KeyCheck) -> dict[str, object]:
    return {
        "slot": key.slot,
        "kind": key.kind.value,
        "outcome": key.outcome.value,
        "cause": key.cause,
        "hint": key.hint,
    }


def _show(result: NodeCheck, console: Console) -> None:
    rows = [row for volume in result.volumes for row in _rows(volume)]
    if rows:
        console.table(("volume", "slot", "key", "result", ""), rows)
    for volume in result.volumes:
        if volume.problem is not None:
            console.say(f"{volume.volume}: {volume.problem.cause}")
        elif not volume.keys:
            console.say(f"{volume.volume}: a plain filesystem, no keys")
    for hint in dict.fromkeys(_hints(result)):
        console.say(f"next: {hint}")
    if result.kept is not None:
        console.note(f"noted in {result.kept}")
    elif result.not_kept is not None and result.exit_code == WELL:
        console.note(f"not noted anywhere: {result.not_kept}")


def _rows(volume: VolumeCheck) -> Iterator[tuple[str, ...]]:
    for key in volume.keys:
        yield volume.volume, str(key.slot), key.kind.value, key.outcome.value, key.cause or ""


def _hints(result: NodeCheck) -> Iterator[str]:
    for volume in result.volumes:
        if volume.problem is not None and volume.problem.hint is not None:
            yield volume.problem.hint
        for key in volume.keys:
            if key.hint is not None:
                yield key.hint
