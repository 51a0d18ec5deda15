"""`luksctl --role ROLE`, the forced command of an ssh key: run what its holder asks for, if the role allows that.

The words come in SSH_ORIGINAL_COMMAND. No shell sees them: they are split, understood by the parser of their verb, and
each option that was given is looked up. What is not named in the table of verbs is for os:admin alone.
"""

from __future__ import annotations

import shlex
import syslog
from argparse import Namespace
from collections.abc import Callable, Mapping

from luksctl.cli.command_line import Command, common_parser, understand
from luksctl.cli.console import Console, printable
from luksctl.cli.roles import Role
from luksctl.errors import Forbidden, LuksctlError, UsageError
from luksctl.hints import Final

_COMMAND: Final = "SSH_ORIGINAL_COMMAND"
_CLIENT: Final = "SSH_CONNECTION"
_PROGRAM: Final = "luksctl"


def admitted(
    forced: Namespace, environment: Mapping[str, str], console: Console, log: Callable[[str], None] | None = None
) -> Command | None:
    """Return what was asked for, where the role of `forced` allows it; Forbidden otherwise. Each is logged.

    None where it was help, which is printed by then.

    `forced` is what the administrator wrote: the role, and settings where they differ from the default.
    """
    tell = _to_journal if log is None else log
    role = _role(forced)
    client = environment.get(_CLIENT, "?").partition(" ")[0]
    try:
        command = _asked(role, environment.get(_COMMAND), console)
    except LuksctlError as error:
        tell(f"{role} from {client}: refused: {printable(error.cause)}")
        raise
    if command is None:
        return None
    tell(f"{role} from {client}: {command.name}")
    command.arguments.settings = command.arguments.settings or forced.settings
    return command


def _role(forced: Namespace) -> Role:
    if forced.verb is not None:
        raise UsageError("--role takes no verb: what to run is in SSH_ORIGINAL_COMMAND", hint="docs/nodes.md")
    try:
        return Role(forced.role)
    except ValueError as error:
        raise UsageError(f"unknown role {forced.role!r}", hint=f"one of {', '.join(Role)}") from error


def _asked(role: Role, line: str | None, console: Console) -> Command | None:
    """Return what the line says, None where that is help."""
    if not line:
        raise Forbidden(f"this key runs {_PROGRAM} alone", hint="ssh HOST luksctl VERB; or luksctl --nodes HOST VERB")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the command cannot be understood: {error}") from error
    if words[:1] != [_PROGRAM]:
        raise Forbidden(f"this key runs {_PROGRAM} alone, and no other program")
    asked = common_parser().parse(words[1:])
    console.json = asked.json
    if asked.role is not None:
        raise Forbidden("the role is that of the key, and nothing else changes it")
    if asked.verb is None:
        raise Forbidden("no verb was named", hint="luksctl --nodes HOST VERB")
    command = understand(asked)
    if command is not None:
        _expect_allowed(role, command)
    return command


def _expect_allowed(role: Role, command: Command) -> None:
    """Raise Forbidden unless the verb, the command behind it and each option are allowed."""
    arguments, what, access = command.arguments, command.name, command.access
    if arguments.hosts:
        raise Forbidden("a node sends nobody on to others")
    _, parser = command.parser.command_of(arguments)
    if access.role is None:
        raise Forbidden(f"{what} is nothing that runs on another node")
    if not role.covers(access.role):
        raise Forbidden(f"{role} may not run {what}: it takes {access.role}")
    for given in parser.given(arguments):
        needed = access.needed_for(given.name)
        if not role.covers(needed):
            raise Forbidden(f"{role} may not run {what} with {given.option or given.name}: it takes {needed}")
    for name in ("settings", "debug"):
        if getattr(arguments, name) and role is not Role.ADMIN:
            raise Forbidden(f"{role} may not use --{name}: it takes {Role.ADMIN}")


def _to_journal(text: str) -> None:
    syslog.openlog(_PROGRAM, syslog.LOG_PID, syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_NOTICE, text)
