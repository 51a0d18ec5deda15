"""`luksctl --nodes HOST,… VERB …`: the same verb on other nodes, over ssh, several at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from luksctl.cli.command_line import Command
from luksctl.cli.console import Console
from luksctl.cli.roles import Access
from luksctl.cli.sending import Errand
from luksctl.devices.ssh import Client, Ending, expect_host
from luksctl.errors import LuksctlError, Unreachable, UsageError
from luksctl.hints import Any, Final
from luksctl.value import field, frozen

AT_ONCE: Final = 16
# Of several nodes the code that comes first here counts, and what is not here before all; docs/nodes.md has the list.
WORST_FIRST: Final = (1, 14, 4, 10, 9, 3, 13, 11, 6, 2, 64, 12, 8, 5, 7, 0)
_NOT_REACHED: Final = 255
# What a luksctl that is stopped ends with, beside the codes of its errors.
_STOPPED: Final = (130, 141)


@frozen
class Answer:
    """What came back from one node: how the verb ended there, and what it printed; or why nothing came."""

    node: str
    code: int
    out: bytes = field(repr=False, default=b"")
    error: LuksctlError | None = None


def access_of(command: Command) -> Access:
    """Return who may run the command on another node."""
    words = " ".join(command.parser.command_of(command.arguments)[0])
    return next(access for access in command.verb.access if access.command == words)


def worst(codes: Iterable[int]) -> int:
    """Return the code that counts where several nodes ended with these."""
    return min(codes, key=lambda code: WORST_FIRST.index(code) if code in WORST_FIRST else -1)


def run_there(command: Command, console: Console) -> int:
    """Run the command on every node that it names, and return the worst code; UsageError where that makes no sense."""
    nodes = tuple(dict.fromkeys(command.arguments.hosts))
    for node in nodes:
        expect_host(node)
    if access_of(command).role is None:
        raise UsageError(f"{command.verb.name} is about no node", hint="leave --nodes out")
    if command.arguments.attached:
        raise UsageError("a node sends nobody on to others")
    client, errand = Client(), Errand(command)
    if command.verb.name == "edit":
        return _attend(client, nodes, errand)
    answers = _ask_all(client, nodes, errand, console)
    console.document({"nodes": [_fields(answer) for answer in answers]})
    return worst(answer.code for answer in answers)


def _attend(client: Client, nodes: tuple[str, ...], errand: Errand) -> int:
    """Run it at this terminal, on one node after the other."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("an editor needs a terminal", hint="luksctl --nodes HOST patch machineconfig -p PATCH")
    codes = []
    for node in nodes:
        code = client.attend(node, errand.line())
        codes.append(Unreachable.exit_code if code == _NOT_REACHED else code)
    return worst(codes)


def _ask_all(client: Client, nodes: tuple[str, ...], errand: Errand, console: Console) -> list[Answer]:
    """Ask every node, and show what each says, in their order; what is said meanwhile is shown as it comes."""
    answers = []
    with errand.pieces() as pieces, ThreadPoolExecutor(AT_ONCE) as pool:

        def ask(node: str) -> Answer:
            try:
                ending = client.run(node, errand.line(), pieces, lambda line: console.note(f"{node}: {line}"))
                return _answer(node, ending, json_wanted=console.json)
            except LuksctlError as error:
                return Answer(node, error.exit_code, error=error)

        try:
            for answer in pool.map(ask, nodes):
                _show(answer, console, alone=len(nodes) == 1)
                answers.append(answer)
        finally:
            client.stop()
    return answers


def _answer(node: str, ending: Ending, *, json_wanted: bool) -> Answer:
    """Tell a verb that failed there from a node that was not reached, or has no luksctl."""
    if ending.code == _NOT_REACHED:
        hint = f"ssh {node} luksctl --version"
        raise Unreachable(f"{node} is not reached: {ending.last_note or 'ssh says nothing'}", hint=hint)
    if ending.code not in (*WORST_FIRST, *_STOPPED) or (json_wanted and _parsed(ending.out) is None):
        cause = f"{node} is reached, but its luksctl did not answer (exit code {ending.code})"
        raise Unreachable(cause, hint=f"ssh {node} luksctl --version")
    return Answer(node, ending.code, ending.out)


def _parsed(out: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(out)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _show(answer: Answer, console: Console, *, alone: bool) -> None:
    """Print for people what one node said: every line behind its name, but for one node into a file, byte for byte."""
    if answer.error is not None:
        console.note(f"luksctl: {answer.error}")
        if answer.error.hint is not None:
            console.note(f"hint: {answer.error.hint}")
    elif console.json:
        return
    elif alone and not console.out.isatty():
        console.raw(answer.out)
    else:
        for line in answer.out.decode("utf-8", "replace").splitlines():
            console.say(f"{answer.node}: {line}")


def _fields(answer: Answer) -> dict[str, Any]:
    said = _parsed(answer.out) if answer.error is None else answer.error.fields()
    return {"node": answer.node, "exitCode": answer.code, "answer": said}
