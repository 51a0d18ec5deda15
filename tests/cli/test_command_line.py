"""The command line as such: options, lists, booleans, help, and what becomes of every kind of error."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from luksctl.cli import validate
from luksctl.cli.console import plain_table, printable
from luksctl.cli.context import Context
from luksctl.cli.main import main
from luksctl.cli.parser import Parser, split_words
from luksctl.cli.verbs import VERBS, Group, overview, verb_of
from luksctl.errors import Refused, UsageError
from tests.cli.desk import Desk
from tests.house.tree import ROOT
from tests.marker import MARKER


def _parser() -> Parser:
    parser = Parser(prog="luksctl test")
    parser.add_flag("start", text="", default=True)
    parser.add_flag("yes", text="")
    parser.add_list("keys", metavar="KIND", text="", default=("nodeID",))
    parser.add_argument("--erase")
    parser.add_argument("words", nargs="*")
    return parser


@pytest.mark.parametrize(
    ("words", "start", "yes"),
    [
        ([], True, False),
        (["--start", "--yes"], True, True),
        (["--no-start", "--no-yes"], False, False),
        (["--start=false", "--yes=true"], False, True),
        (["--yes", "STATE"], True, True),
    ],
)
def test_booleans_take_three_forms(words: list[str], start: bool, yes: bool) -> None:  # noqa: FBT001
    """--x, --no-x and --x=true|false, and never the word after them."""
    arguments = _parser().parse(words)
    assert (arguments.start, arguments.yes) == (start, yes)


def test_a_boolean_takes_nothing_but_true_and_false() -> None:
    """--yes=maybe is a usage error that names the choices."""
    with pytest.raises(UsageError, match="true or false"):
        _parser().parse(["--yes=maybe"])


def test_what_follows_two_dashes_is_left_alone() -> None:
    """After --, nothing is an option; an option that takes a value keeps it as it is written."""
    arguments = _parser().parse(["--erase=true", "--", "--yes=maybe"])
    assert (arguments.erase, arguments.words) == ("true", ["--yes=maybe"])


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], ("nodeID",)),
        (["--keys", "static,tpm"], ("static", "tpm")),
        (["--keys=static", "--keys", "tpm, kms"], ("static", "tpm", "kms")),
        (["--keys="], ()),
    ],
)
def test_lists_take_commas_and_repetition(words: list[str], keys: tuple[str, ...]) -> None:
    """Both ways add up; the default stands only where nothing is given."""
    assert _parser().parse(words).keys == keys


def test_positional_words_take_commas_too() -> None:
    """STATE,EPHEMERAL is two volumes."""
    assert split_words(["STATE,EPHEMERAL", " META ,"]) == ("STATE", "EPHEMERAL", "META")


def test_options_are_never_guessed_from_their_beginning(desk: Desk) -> None:
    """--js is not --json: a script would break the day a second option begins like that."""
    answer = desk.run("plan", "--js")
    assert (answer.code, answer.out) == (64, "")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_explains_itself(verb: object, desk: Desk) -> None:
    """--help of each verb says what it destroys and how it ends."""
    name = next(known.name for known in VERBS if known is verb)
    answer = desk.run(name, "--help")
    assert answer.code == 0
    assert "destroys:" in answer.out
    assert "exit codes:" in answer.out


def test_help_is_grouped() -> None:
    """Each verb stands once, below its group, in the order daily, keys, changes, end of life."""
    text = overview()
    places = [text.index(f"\n{group}:\n") for group in Group]
    assert places == sorted(places)
    for verb in VERBS:
        assert text.count(f"\n  {verb.name} ") == 1


def test_common_options_stand_before_or_after_the_verb(desk: Desk) -> None:
    """--json counts in both places, and --no-json after it takes it back."""
    before, after = desk.run("--json", "meta", "list"), desk.run("meta", "--json=true", "list")
    assert before.json == after.json == {"tags": []}
    assert not desk.run("--json", "meta", "--no-json", "list").out.startswith("{")


def test_an_alias_is_the_verb() -> None:
    """Apply is apply-config."""
    assert verb_of("apply") is verb_of("apply-config") is not None


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ((), "no verb", "luksctl --help"),
        (("statu",), "unknown verb 'statu'", "did you mean status?"),
        (("plan", "STAT"), "unknown volume 'STAT'", "STATE and EPHEMERAL"),
        (("validate",), "required: FILE", "luksctl validate --help"),
        (("boot",), "name one volume, or --all", "luksctl boot --all"),
        (("boot", "STATE", "--all"), "name one volume, or --all", "luksctl boot --all"),
        (("gen", "config", "--keys", "statik"), "unknown kind of key 'statik'", "did you mean static?"),
        (("meta", "read", "0x100"), "outside 1 to 255", "write it as 15 or 0x0f"),
    ],
)
def test_usage_errors_end_with_64_and_a_hint(words: tuple[str, ...], said: str, hint: str, desk: Desk) -> None:
    """The cause and the next thing to type are on standard error."""
    answer = desk.run(*words)
    assert answer.code == 64
    assert said in answer.err
    assert hint in answer.err


def test_an_error_is_an_object_with_json(desk: Desk) -> None:
    """Standard output holds exactly the error's fields; people still read it on standard error."""
    answer = desk.run("--json", "plan", "NOPE")
    assert answer.json["error"] == "UsageError"
    assert answer.json["exitCode"] == answer.code == 64
    assert "NOPE" in answer.err


def test_an_unforeseen_error_says_where_and_not_what(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text may hold anything, so it is shown only with --debug."""

    def fail(arguments: Namespace, context: Context) -> int:  # noqa: ARG001
        raise KeyError(MARKER)

    monkeypatch.setattr(validate, "run", fail)
    answer = desk.run("validate", "x")
    assert answer.code == 1
    assert "a bug in luksctl: KeyError at" in answer.err
    assert MARKER.decode() not in answer.err + answer.out
    assert "Traceback" in desk.run("--debug", "validate", "x").err


def test_an_interrupt_ends_with_130(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no bug."""

    def interrupt(arguments: Namespace, context: Context) -> int:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "run", interrupt)
    answer = desk.run("validate", "x")
    assert (answer.code, answer.err) == (130, "luksctl: interrupted\n")
    document = desk.run("validate", "x", "--json").json
    assert (document["error"], document["exitCode"]) == ("Interrupted", 130)


def test_a_failure_of_the_system_names_the_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OSError that nobody turned into an error of ours ends with 9 and says what it was about."""

    def fail(arguments: Namespace, context: Context) -> int:  # noqa: ARG001
        with open("/nonexistent/file", encoding="utf-8"):
            raise AssertionError

    monkeypatch.setattr(validate, "run", fail)
    answer = desk.run("validate", "x")
    assert answer.code == 9
    assert "/nonexistent/file: No such file or directory" in answer.err


def test_a_reader_that_left_is_no_error() -> None:
    """`luksctl … | head -0` says nothing on standard error."""
    with subprocess.Popen(
        [sys.executable, "-m", "luksctl", "gen", "config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_nobody_is_asked_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal and without --yes, confirming is a usage error."""
    with pytest.raises(UsageError, match="nobody is here"):
        Context().confirm("All is lost", "STATE", yes=False)
    Context().confirm("All is lost", "STATE", yes=True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(UsageError):
        Context().confirm("All is lost", "STATE", yes=False)


@pytest.mark.parametrize(("typed", "accepted"), [("STATE\n", True), ("yes\n", False), ("", False)])
def test_only_the_name_confirms(typed: str, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """On a terminal, the name has to be typed; anything else refuses."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return typed

    context = Context()
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(context.console.err, "isatty", lambda: True, raising=False)
    if accepted:
        context.confirm("All is lost", "STATE", yes=False)
    else:
        with pytest.raises(Refused):
            context.confirm("All is lost", "STATE", yes=False)


def test_text_from_a_disk_cannot_steer_the_terminal() -> None:
    """Escape sequences in a label are shown as dots."""
    assert printable("a\x1b[2Jb\nc") == "a·[2Jb\nc"


def test_plain_tables_line_up() -> None:
    """Columns are as wide as their widest cell, and no line ends in spaces."""
    assert plain_table(("a", "b"), [["1", ""], ["1234", "x"]]) == "A     B\n1\n1234  x\n"


def _modules_of(*words: str) -> set[str]:
    program = (
        "import sys; from luksctl.cli.main import main\n"
        f"code = main({words!r})\n"
        "sys.stderr.write(' '.join(sys.modules))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("verb", ["status", "plan", "boot", "meta", "validate", "install", "enable"])
def test_a_start_is_lean(verb: str) -> None:
    """Only the module of the verb that was asked for is imported, and nothing that costs more than the work."""
    loaded = _modules_of(verb, "--help")
    slow = {"rich", "asyncio", "subprocess", "importlib.metadata", "pyudev", "argcomplete", "traceback", "ssl", "email"}
    assert not slow & loaded
    ours = {f"luksctl.cli.{known.module}" for known in VERBS if known.name != verb}
    assert not ours & loaded


def test_validate_needs_no_library() -> None:
    """Checking a config loads neither libcryptsetup nor anything that looks at devices."""
    loaded = _modules_of("validate", "--json", "examples/machine.yaml")
    assert "luksctl.config.documents" in loaded
    assert not {name for name in loaded if name.startswith(("luksctl.cryptsetup", "luksctl.devices", "luksctl.node"))}


def test_the_module_is_the_program() -> None:
    """`python -m luksctl` ends with the code of the verb."""
    done = subprocess.run(
        [sys.executable, "-m", "luksctl", "--json", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert set(json.loads(done.stdout)) == {"version"}


def test_settings_that_are_wrong_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem of the settings file is told with file and line."""
    settings = tmp_path / "luksctl.yaml"
    settings.write_text("volumes:\n  STAT: {}\ntimeouts: {hook: soon}\n", encoding="utf-8")
    assert main(("--settings", str(settings), "plan")) == 2
    said = capsys.readouterr().err
    assert f"luksctl: {settings}:2: " in said
    assert f"luksctl: {settings}:3: " in said
