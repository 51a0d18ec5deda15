"""What each role may run, asked of the gate itself, for every verb and every option there is."""

from __future__ import annotations

import io
import shlex
from argparse import Namespace
from collections.abc import Iterator

import pytest

from luksctl.cli.command_line import common_parser
from luksctl.cli.console import Console
from luksctl.cli.gate import admitted
from luksctl.cli.loading import load
from luksctl.cli.parser import Parser, Takes, verb_parser
from luksctl.cli.roles import Access, Role
from luksctl.cli.verbs import VERBS, Verb
from luksctl.errors import Forbidden, LuksctlError, UsageError
from tests.house.tree import ROOT

# Every command that somebody below os:admin may run. A line more is a decision; docs/nodes.md says it as well.
BELOW_ADMIN = {
    "status": Role.READER,
    "plan": Role.READER,
    "doctor": Role.READER,
    "get": Role.READER,
    "meta list": Role.READER,
    "meta read": Role.READER,
    "recovery list": Role.READER,
    "header list": Role.READER,
    "tpm preflight": Role.READER,
    "trial show": Role.READER,
    "check": Role.OPERATOR,
    "boot": Role.OPERATOR,
    "retry": Role.OPERATOR,
    "reboot": Role.OPERATOR,
    "sync": Role.OPERATOR,
    "keys rotate": Role.OPERATOR,
    "trial revert": Role.OPERATOR,
}


def _commands(words: tuple[str, ...], parser: Parser) -> Iterator[tuple[str, Parser]]:
    """Yield the words behind a verb for each command, with the parser of the last one."""
    inner = parser.commands()
    if not inner:
        yield " ".join(words), parser
    for word, below in inner.items():
        yield from _commands((*words, word), below)


def _all(verb: Verb) -> dict[str, Parser]:
    parser = verb_parser(verb)
    load(verb).configure(parser)
    return dict(_commands((), parser))


def _asked(role: str, line: str | None, log: list[str] | None = None) -> object:
    forced = Namespace(role=role, settings=None, verb=None)
    environment = {"SSH_CONNECTION": "192.0.2.7 4711 192.0.2.1 22"}
    if line is not None:
        environment["SSH_ORIGINAL_COMMAND"] = line
    return admitted(forced, environment, Console(out=io.StringIO()), ([] if log is None else log).append)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_command_has_a_role(verb: Verb) -> None:
    """Each command of the parser stands once in the table of verbs, and no other one does."""
    assert sorted(access.command for access in verb.access) == sorted(_all(verb))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_only_what_is_listed_here_is_below_admin(verb: Verb) -> None:
    """A command gets to readers and operators by a line of this test, and not by an oversight."""
    for access in verb.access:
        name = f"{verb.name} {access.command}".strip()
        assert BELOW_ADMIN.get(name, Role.ADMIN if access.role else None) is access.role, name
        if access.role is not None and access.role is not Role.ADMIN:
            assert f"`{name}`" in (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")


def _names(access: Access) -> tuple[str, ...]:
    return (*access.options, *(name for name, _ in access.raised))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_what_a_lower_role_may_name_is_there_and_is_no_file(verb: Verb) -> None:
    """Options of the table exist, and none below os:admin takes a file, a descriptor, a patch or a secret."""
    parsers = _all(verb)
    for access in verb.access:
        takes = {action.dest: parsers[access.command].takes(action.dest) for action in parsers[access.command]._actions}
        for name in _names(access):
            assert name in takes
            assert takes[name] is None, f"{verb.name}: {name}"
        assert not {"show_secrets", "yes", "record", "to", "identity"} & set(_names(access))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_no_verb_calls_anything_by_a_name_that_every_verb_has(verb: Verb) -> None:
    """Else what a verb is about would be taken for the nodes to run it on."""
    for parser in _all(verb).values():
        names = [action.dest for action in parser._actions]
        assert not {"attached", "role"} & set(names)
        assert names.count("hosts") == names.count("settings") == 1


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_options_stand_at_the_last_word(verb: Verb) -> None:
    """What is sent is spelled from the last parser alone, so none before it has an option of its own."""
    parser = verb_parser(verb)
    load(verb).configure(parser)
    if parser.commands():
        own = {action.dest for action in parser._actions} - parser.common - {"help", "command"}
        assert own == set()


@pytest.mark.parametrize(
    ("role", "line"),
    [
        ("os:reader", "luksctl status"),
        ("os:reader", "luksctl --json status STATE"),
        ("os:reader", "luksctl get machineconfig -o yaml"),
        ("os:operator", "luksctl sync STATE,EPHEMERAL --dry-run"),
        ("os:operator", "luksctl doctor --check"),
        ("os:operator", "luksctl reboot --json"),
        ("os:admin", "luksctl reset --yes --system-labels-to-wipe=EPHEMERAL"),
        ("os:admin", "luksctl --settings /etc/other.yaml --debug status"),
    ],
)
def test_what_is_allowed_is_run(role: str, line: str) -> None:
    """The command comes back understood, and the log has its name, the role and the address."""
    log: list[str] = []
    assert _asked(role, line, log) is not None
    verb = next(word for word in shlex.split(line)[1:] if not word.startswith(("-", "/")))
    assert log == [f"{role} from 192.0.2.7: {verb}"]


@pytest.mark.parametrize(
    ("role", "line", "told"),
    [
        ("os:reader", "luksctl sync", "it takes os:operator"),
        ("os:reader", "luksctl doctor --check", "it takes os:operator"),
        ("os:reader", "luksctl reboot", "it takes os:operator"),
        ("os:reader", "luksctl get mc --show-secrets", "--show-secrets: it takes os:admin"),
        ("os:reader", "luksctl get mc --show-secrets=true", "--show-secrets: it takes os:admin"),
        ("os:reader", "luksctl plan -f /etc/shadow", "--file: it takes os:admin"),
        ("os:reader", "luksctl plan --file=/etc/shadow", "--file: it takes os:admin"),
        ("os:reader", "luksctl plan -f/etc/shadow", "--file: it takes os:admin"),
        ("os:reader", "luksctl tpm preflight --signature /etc/shadow", "--signature: it takes os:admin"),
        ("os:reader", "luksctl --settings /etc/shadow status", "--settings"),
        ("os:reader", "luksctl status --settings=/etc/shadow", "--settings"),
        ("os:operator", "luksctl status --debug", "--debug"),
        ("os:operator", "luksctl keys rotate STATE --slot 0 --key-fd 0", "it takes os:admin"),
        ("os:operator", "luksctl sync --recovery --key-fd=0", "it takes os:admin"),
        ("os:operator", "luksctl retry STATE --drop-intent --yes", "it takes os:admin"),
        ("os:operator", "luksctl apply-config -f attached:0", "it takes os:admin"),
        ("os:admin", "luksctl validate x", "nothing that runs on another node"),
        ("os:admin", "luksctl edit mc", "nothing that runs on another node"),
        ("os:admin", "luksctl -n other status", "sends nobody on"),
        ("os:admin", "luksctl status -n other", "sends nobody on"),
        ("os:admin", "luksctl --role os:admin status", "nothing else changes it"),
        ("os:admin", "luksctl", "no verb"),
        ("os:admin", "sh -c id", "no other program"),
        ("os:admin", "/tmp/luksctl status", "no other program"),
        ("os:admin", None, "this key runs luksctl alone"),
    ],
)
def test_what_is_not_allowed_is_refused_and_logged(role: str, line: str | None, told: str) -> None:
    """The error says what it would take; the log has it as well."""
    log: list[str] = []
    with pytest.raises(Forbidden) as caught:
        _asked(role, line, log)
    assert told in str(caught.value)
    assert log == [f"{role} from 192.0.2.7: refused: {caught.value.cause}"]


@pytest.mark.parametrize(
    "line", ["luksctl 'status", "luksctl status; id", "luksctl status && id", "luksctl nothing", "luksctl --x status"]
)
@pytest.mark.parametrize("role", list(Role))
def test_what_makes_no_sense_is_no_command(role: Role, line: str) -> None:
    """A line that no parser takes is a usage error for every role, and is logged as refused."""
    log: list[str] = []
    try:
        _asked(role, line, log)
    except UsageError:
        pass
    except LuksctlError as error:
        raise AssertionError(line) from error
    else:
        # A volume may have any name, up to here: the verb itself refuses it.
        assert line.startswith("luksctl status")
    assert len(log) == 1


def test_a_role_that_nobody_knows_gives_nothing() -> None:
    """A mistyped forced command refuses everything."""
    with pytest.raises(UsageError, match="unknown role 'os:root'"):
        _asked("os:root", "luksctl status")


def test_the_forced_command_may_say_where_things_are() -> None:
    """Settings in front of the role count where the asker names none, and a verb behind it makes no sense."""
    forced = common_parser().parse(["--settings", "/etc/other.yaml", "--role", "os:reader"])
    command = admitted(forced, {"SSH_ORIGINAL_COMMAND": "luksctl status"}, Console(), lambda _: None)
    assert command is not None
    assert command.arguments.settings == "/etc/other.yaml"
    with pytest.raises(UsageError, match="takes no verb"):
        admitted(common_parser().parse(["--role", "os:reader", "status"]), {}, Console(), lambda _: None)


def test_files_and_secrets_are_marked_as_such() -> None:
    """Every option that names something of the machine at which it is typed is sent, in whichever verb it is."""
    for verb in VERBS:
        for access in verb.access:
            parser = _all(verb)[access.command]
            for action in parser._actions:
                if access.role is not None and action.option_strings[-1:] in (
                    ["--key-fd"],
                    ["--recipient"],
                    ["--file"],
                ):
                    expected = Takes.DESCRIPTOR if action.dest == "key_fd" else Takes.FILE
                    assert parser.takes(action.dest) is expected, f"{verb.name} {access.command}"
