"""`luksctl plan`: what a boot, or a new config, would do; reads only.

Ends with 0 where nothing is left to do, with 8 (not converged) where steps are listed, and with the code of the first
refusal where a volume is refused.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, Takes
from luksctl.cli.sources import read_config
from luksctl.cli.steps import described, slot_of, step_fields
from luksctl.cli.volumes import volumes_of
from luksctl.errors import NotConverged
from luksctl.model.config import STATE
from luksctl.model.destroys import Destroys
from luksctl.model.observed import Luks2
from luksctl.node.preview import Outlook, Preview, outlook, preview
from luksctl.node.report import read_report

_COLUMNS = ("volume", "step", "slot", "destroys", "what")


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")
    text = "plan what applying this config would do; - for stdin"
    parser.add_sent(Takes.FILE, "-f", "--file", metavar="FILE", help=text)


def run(arguments: Namespace, context: Context) -> int:
    """Show the plan of each volume."""
    volumes = volumes_of(arguments.volumes)
    given = None if arguments.file is None else read_config(arguments.file)
    known = outlook(context.node(), given)
    previews = tuple(preview(known, volume) for volume in volumes)
    console = context.console
    console.document({"volumes": [_fields(seen) for seen in previews], "notes": list(_notes(known, previews))})
    rows = list(_rows(previews))
    if rows:
        console.table(_COLUMNS, rows)
    for seen in previews:
        if seen.plan.refusal is not None:
            console.say(f"refused: {seen.plan.refusal}")
            if seen.plan.refusal.hint is not None:
                console.say(f"  hint: {seen.plan.refusal.hint}")
        elif seen.plan.converged:
            console.say(f"{seen.volume}: nothing to do (by {seen.source})")
    for note in _notes(known, previews):
        console.note(f"note: {note}")
    return _exit_code(previews)


def _rows(previews: Sequence[Preview]) -> Iterator[tuple[str, ...]]:
    for seen in previews:
        for step in seen.plan.steps:
            slot = slot_of(step)
            destroys = "" if step.destroys is Destroys.NOTHING else step.destroys.upper()
            name = type(step).__name__
            yield step.volume, name, "" if slot is None else str(slot), destroys, described(step)


def _notes(known: Outlook, previews: Sequence[Preview]) -> Iterator[str]:
    yield from known.view.notes
    for seen in previews:
        yield from (f"{seen.volume}: {note}" for note in seen.plan.notes)
        report = read_report(known.node, seen.volume)
        if isinstance(seen.observed, Luks2) and report is not None and report.in_sync is False:
            yield f"{seen.volume}: its keyslots are not those of the config (luksctl sync --dry-run {seen.volume})"
        closed = isinstance(seen.observed, Luks2) and seen.observed.mapping is None
        if seen.volume == STATE and closed and known.config is not None and not known.view.state_mounted:
            yield f"once STATE is open, the config in it rules, and {known.config.source} does not"


def _fields(seen: Preview) -> dict[str, object]:
    return {
        "volume": seen.volume,
        "configSource": seen.source or None,
        "observed": None if seen.observed is None else type(seen.observed).__name__,
        "converged": seen.plan.converged,
        "destroysData": seen.plan.destroys_data,
        "steps": [step_fields(step) for step in seen.plan.steps],
        "refusal": None if seen.plan.refusal is None else seen.plan.refusal.fields(),
        "notes": list(seen.plan.notes),
    }


def _exit_code(previews: Sequence[Preview]) -> int:
    for seen in previews:
        if seen.plan.refusal is not None:
            return seen.plan.refusal.exit_code
    return NotConverged.exit_code if any(seen.plan.steps for seen in previews) else 0
