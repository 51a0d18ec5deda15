"""`luksctl --nodes HOST,… VERB …`: the same verb on other nodes, over ssh, several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from luksctl.cli.answers import Answer, expect_answer, show_error, worst
from luksctl.cli.command_line import Command
from luksctl.cli.console import Console
from luksctl.cli.sending import Errand
from luksctl.devices.ssh import Client, expect_host
from luksctl.errors import LuksctlError, UsageError
from luksctl.hints import Final

AT_ONCE: Final = 16


def run_there(command: Command, console: Console) -> int:
    """Run the command on every node that it names, and return the worst code; UsageError where that makes no sense."""
    nodes = tuple(dict.fromkeys(command.arguments.hosts))
    for node in nodes:
        expect_host(node)
    if command.arguments.attached:
        raise UsageError("a node sends nobody on to others")
    if command.verb.name == "edit":
        from luksctl.cli.edit_there import edit_there  # noqa: PLC0415  # nobody else needs an editor

        return edit_there(Client(), nodes, command, console)
    if command.access.role is None:
        raise UsageError(f"{command.verb.name} is about no node", hint="leave --nodes out")
    answers = _ask_all(Client(), nodes, Errand(command), console)
    console.document({"nodes": [answer.fields() for answer in answers]})
    return worst(answer.code for answer in answers)


def _ask_all(client: Client, nodes: tuple[str, ...], errand: Errand, console: Console) -> list[Answer]:
    """Ask every node, and show what each says, in their order; what is said meanwhile is shown as it comes."""
    answers = []
    with errand.pieces() as pieces, ThreadPoolExecutor(AT_ONCE) as pool:

        def ask(node: str) -> Answer:
            try:
                ending = client.run(node, errand.line(), pieces, lambda line: console.note(f"{node}: {line}"))
                expect_answer(node, ending, json_wanted=console.json)
            except LuksctlError as error:
                return Answer(node, error.exit_code, error=error)
            return Answer(node, ending.code, ending.out)

        try:
            for answer in pool.map(ask, nodes):
                _show(answer, console, alone=len(nodes) == 1)
                answers.append(answer)
        finally:
            client.stop()
    return answers


def _show(answer: Answer, console: Console, *, alone: bool) -> None:
    """Print for people what one node said: every line behind its name, but for one node into a file, byte for byte."""
    if answer.error is not None:
        show_error(answer.error, console)
    elif console.json:
        return
    elif alone and not console.out.isatty():
        console.raw(answer.out)
    else:
        for line in answer.out.decode("utf-8", "replace").splitlines():
            console.say(f"{answer.node}: {line}")
