"""`luksctl doctor`: why a volume does not open, or what is about to break, each with the shortest fix; reads only.

Ends with 0 where nothing is wrong, with 4 where a volume does not come up, with 5 where something is about to break,
with 12 in maintenance. Notes change no exit code.
"""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.check import check_fields
from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.cli.volumes import volumes_of
from luksctl.node.doctor import Diagnosis, examine
from luksctl.node.finding import Finding
from luksctl.wiring import surroundings


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    parser.add_argument("volumes", metavar="VOLUME", nargs="*", help="STATE, EPHEMERAL; both without any")
    parser.add_flag("check", text="try every configured key as well, which takes the time of their KDFs")


def run(arguments: Namespace, context: Context) -> int:
    """Look, and show what was found."""
    volumes = volumes_of(arguments.volumes)
    found = examine(context.node(), surroundings(), volumes, with_check=arguments.check)
    context.console.document(_fields(found))
    _show(found, context.console)
    return found.exit_code


def _fields(found: Diagnosis) -> dict[str, object]:
    return {
        "exitCode": found.exit_code,
        "findings": [
            {
                "weight": finding.weight.value,
                "volume": finding.volume,
                "slot": finding.slot,
                "what": finding.what,
                "fix": finding.fix,
            }
            for finding in found.findings
        ],
        "check": None if found.checked is None else check_fields(found.checked),
    }


def _show(found: Diagnosis, console: Console) -> None:
    for finding in found.findings:
        console.say(f"{finding.weight}: {_place(finding)}{finding.what}")
        if finding.fix is not None:
            console.say(f"  fix: {finding.fix}")
    if found.exit_code == 0:
        seen = "every configured key opened its slot" if found.checked else "no key was tried, see --check"
        console.say(f"nothing is wrong; {seen}")


def _place(finding: Finding) -> str:
    return "" if finding.volume is None else f"{finding.volume}: "
