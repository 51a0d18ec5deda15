"""`luksctl trial`: whether a machine config is on trial, and take it back."""

from __future__ import annotations

from argparse import Namespace

from luksctl.cli.context import Context
from luksctl.cli.parser import Parser
from luksctl.node.taking_back import revert, revert_at_deadline
from luksctl.node.trial import pending


def configure(parser: Parser) -> None:
    """Add the commands of the verb."""
    parser.add_command("show", text="say whether a config is on trial, and for how long")
    taking_back = parser.add_command("revert", text="take the config on trial back now")
    taking_back.add_flag("at-deadline", text="wait for its time to be over first; one that is confirmed stays")


def run(arguments: Namespace, context: Context) -> int:
    """Say how it stands, or take it back."""
    node, console = context.node(), context.console
    if arguments.command == "show":
        trial = pending(node)
        left_s = None if trial is None else max(0.0, trial.deadline_s - node.system.monotonic_s())
        console.say("no config is on trial" if left_s is None else f"a config is on trial for {left_s:.0f} s more")
        console.document({"onTrial": left_s is not None, "secondsLeft": left_s})
        return 0
    taken_back = revert_at_deadline(node) if arguments.at_deadline else revert(node)
    console.say("the config on trial was taken back" if taken_back else "no config is on trial")
    console.document({"takenBack": taken_back})
    return 0
