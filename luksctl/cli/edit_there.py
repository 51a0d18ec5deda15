"""`luksctl --nodes HOST,… edit machineconfig`: the config of each node, in the editor of who sits here.

What is edited comes by `get machineconfig`, and goes back by `apply-config`; no editor runs on a node.
"""

from __future__ import annotations

import json
import os

from luksctl.cli.answers import Answer, expect_answer, show_error, worst
from luksctl.cli.attached import Attached
from luksctl.cli.command_line import Command
from luksctl.cli.console import Console
from luksctl.cli.editing import SOURCE, Editing
from luksctl.cli.sending import Errand, bundle
from luksctl.devices.editor import edit_file
from luksctl.devices.ssh import Client, Ending
from luksctl.errors import ConfigError, LuksctlError, Maintenance, Problem, Refused, Unreachable
from luksctl.hints import Any, Final
from luksctl.node.modes import Mode

# In memory, as the text holds passphrases; the second is for who has no session of systemd.
_DIRECTORIES: Final = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm")  # noqa: S108  # a directory of our own in it
_GET: Final = "luksctl get machineconfig --show-secrets"
_APPLIED: Final = (0, 5, 7)


def edit_there(client: Client, nodes: tuple[str, ...], command: Command, console: Console) -> int:
    """Edit the config of one node after the other, and return the worst code."""
    answers = []
    for node in nodes:
        try:
            answers.append(_edit(client, node, command, console))
        except LuksctlError as error:
            show_error(error, console)
            answers.append(Answer(node, error.exit_code, error=error))
    console.document({"nodes": [answer.fields() for answer in answers]})
    return worst(answer.code for answer in answers)


def _edit(client: Client, node: str, command: Command, console: Console) -> Answer:
    """Edit the config of `node` until it takes it; whatever else it says is told."""
    taken: list[Ending] = []
    arguments = command.arguments

    def take(edited: bytes) -> int:
        ending = _apply(client, node, command, edited, console)
        taken.append(ending)
        return ending.code

    directory = next(path for path in _DIRECTORIES if path and os.path.isdir(path))
    keep = arguments.dry_run or arguments.mode == Mode.TRY.value
    editing = Editing(directory, edit_file, lambda line: console.note(f"{node}: {line}"))
    code = editing.run(_text_of(client, node), take, keep=keep, held=lambda _: False)
    if code is None:
        console.say(f"{node}: nothing was changed")
        return Answer(node, 0, b'{"changed": false}')
    return Answer(node, code, taken[-1].out)


def _text_of(client: Client, node: str) -> bytes:
    """Return the config that rules there, right or wrong."""
    notes: list[str] = []
    ending = client.run(node, _GET, (), notes.append)
    expect_answer(node, ending)
    if ending.code == Maintenance.exit_code:
        raise Maintenance(f"{node} has no machine config", hint=f"luksctl -n {node} apply-config --insecure -f FILE")
    if not ending.out:
        raise Refused(f"{node} did not show its machine config: {ending.last_note}")
    return ending.out


def _apply(client: Client, node: str, command: Command, edited: bytes, console: Console) -> Ending:
    """Have `node` take the edited text; raises ConfigError and Refused, for the editor, and what else keeps it off."""
    line = Errand(command).line_of("apply-config", "--file=attached:0")
    ending = client.run(node, line, bundle([Attached(SOURCE, edited)]), lambda said: console.note(f"{node}: {said}"))
    expect_answer(node, ending)
    try:
        said = json.loads(ending.out)
    except ValueError as error:
        raise Unreachable(f"{node} did not say what became of it") from error
    if ending.code not in _APPLIED:
        raise _error_of(said)
    for text in (
        said.get("diff"),
        f"{node}: taken, mode {said.get('mode')}",
        *said.get("notes", ()),
        said.get("cause"),
    ):
        if text:
            console.say(str(text))
    return ending


def _error_of(said: dict[str, Any]) -> LuksctlError:
    """Return the error that a node told as JSON, as the kind that leads back into the editor where it did there."""
    cause, hint = str(said.get("cause")), said.get("hint")
    if said.get("exitCode") == ConfigError.exit_code:
        return ConfigError(tuple(Problem(**problem) for problem in said.get("problems", ())), hint=hint)
    if said.get("exitCode") == Refused.exit_code:
        return Refused(cause, hint=hint)
    error = LuksctlError(cause, hint=hint)
    error.exit_code = int(said.get("exitCode", LuksctlError.exit_code))
    return error
