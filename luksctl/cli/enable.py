"""`luksctl enable`: units, mount points, and the record of what must be encrypted; here, or below --root."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

import luksctl
from luksctl.cli.console import Console
from luksctl.cli.context import Context
from luksctl.cli.parser import Parser, split_words
from luksctl.cli.sources import read_config
from luksctl.cli.volumes import MANAGED, volumes_of
from luksctl.errors import Degraded, UsageError
from luksctl.model.config import Settings
from luksctl.node.enable import Outcome, Target, enable, start
from luksctl.node.expected import expected_encrypted
from luksctl.node.node import Paths
from luksctl.value import replace
from luksctl.wiring import unit_host


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    add_root(parser)
    parser.add_list(
        "encrypted",
        metavar="VOLUME,…",
        text="never mount these plain; without it, what the machine config in /etc/luksctl encrypts",
    )
    parser.add_argument(
        "--program", metavar="PATH", help="the boot hook as units call it (default: this luksctl's, by its Python)"
    )
    parser.add_argument(
        "--command", metavar="PATH", help="luksctl as the timer calls it (default: this one, or that beside --program)"
    )
    parser.add_flag("start", text="mount the volumes now (default; not with --root)", default=True)


def add_root(parser: Parser) -> None:
    """Add --root, which disable takes as well."""
    parser.add_argument("--root", metavar="DIR", default="", help="write below DIR, for an image that boots later")


def run(arguments: Namespace, context: Context) -> int:
    """Enable, and say what is less safe than it should be."""
    program = _absolute("--program", arguments.program)
    command = _absolute("--command", arguments.command)
    if command is None and program is not None:
        command = os.path.join(os.path.dirname(program), "luksctl")  # an installer puts the two side by side
    target = replace(
        target_of(arguments.root, context),
        program=_own("boot", "-S") if program is None else (program,),
        command=_own("cli") if command is None else (command,),
    )
    host = unit_host()
    outcome = enable(target, host, encrypted=_expected(arguments.encrypted, target))
    if arguments.start and not target.root:
        start(target, host, outcome)
    show(outcome, context.console)
    return Degraded.exit_code if outcome.problems else 0


def _absolute(option: str, path: str | None) -> str | None:
    """Return `path`, which systemd takes only as an absolute one."""
    if path is not None and not os.path.isabs(path):
        raise UsageError(f"{option} takes an absolute path, not {path!r}", hint=f"luksctl enable {option} /PATH")
    return path


def target_of(root: str, context: Context) -> Target:
    """Return where to write; settings below `root` count for what is written there."""
    below = "" if root in ("", "/") else os.path.abspath(root)
    settings_below = below + Settings().path
    if below and context.settings_path is None and os.path.exists(settings_below):
        context.settings_path = settings_below
    return Target(context.settings(), context.paths or Paths(), (), below)


def show(outcome: Outcome, console: Console) -> None:
    """Say what was written and removed."""
    for path in outcome.written:
        console.say(f"wrote {path}")
    for path in outcome.removed:
        console.say(f"removed {path}")
    for path in outcome.sealed:
        console.say(f"sealed {path}: empty, mode 0000, immutable")
    for note in outcome.notes:
        console.note(f"note: {note}")
    for problem in outcome.problems:
        console.note(f"luksctl: {problem}")
    console.document(
        {
            "written": outcome.written,
            "removed": outcome.removed,
            "sealed": outcome.sealed,
            "notes": outcome.notes,
            "problems": outcome.problems,
        }
    )


def _expected(named: tuple[str, ...] | None, target: Target) -> tuple[str, ...] | None:
    """Return the volumes that must be encrypted; None where neither an option nor a config says so.

    Only the option takes back what was recorded: the config in /etc may be an old one, and the one in STATE rules.
    """
    if named is not None:
        return volumes_of(named) if split_words(named) else ()
    path = target.root + target.paths.machine_config
    if not os.path.exists(path):
        return None
    recorded = expected_encrypted(
        replace(target.paths, expected_encrypted=target.root + target.paths.expected_encrypted)
    )
    wanted = {volume for volume, _ in read_config(path).encryption}
    return tuple(volume for volume in MANAGED if volume in recorded | wanted)


def _own(room: str, *options: str) -> tuple[str, ...]:
    """Return the command line of this very luksctl's hook, or of luksctl itself: by this interpreter, with `options`.

    -I keeps the environment and the working directory out of it.
    """
    package = os.path.dirname(os.path.abspath(luksctl.__file__))
    return (sys.executable, "-I", *options, os.path.join(package, room, "program.py"))
