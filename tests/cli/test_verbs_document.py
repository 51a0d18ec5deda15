"""docs/verbs.md says what the parser does."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from luksctl import errors
from luksctl.cli.complete import full_parser
from luksctl.cli.loading import load
from luksctl.cli.parser import verb_parser
from luksctl.cli.roles import shown
from luksctl.cli.verbs import VERBS, Verb
from tests.house.tree import ROOT

_COMMON = {"-n", "--nodes", "--settings", "--json", "--debug", "--no-json", "--no-debug", "--help", "-h"}


def _text() -> str:
    return (ROOT / "docs" / "verbs.md").read_text(encoding="utf-8")


def _section(verb: Verb) -> str:
    return re.split(r"^##+ ", _text().partition(f"### {verb.name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)


def _options(verb: Verb) -> set[str]:
    """Return every option of `verb`: of a boolean, the one that changes its default."""
    top = verb_parser(verb)
    load(verb).configure(top)
    found = set()
    for parser in _parsers(top):
        for action in parser._actions:
            for option in action.option_strings:
                changes = {"store_true": False, "store_false": True}.get(_kind(action))
                if changes is None or parser.get_default(action.dest) is changes:
                    found.add(option)
    return found - _COMMON


def _kind(action: argparse.Action) -> str:
    if isinstance(action, argparse._StoreTrueAction):
        return "store_true"
    return "store_false" if isinstance(action, argparse._StoreFalseAction) else "store"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_table_has_the_row_of_the_verb(verb: Verb) -> None:
    """Group, answer, destruction and exit codes are those that --help shows, and the roles those that are held."""
    codes = ", ".join(str(code) for code in verb.exit_codes)
    assert (
        f"| `{verb.name}` | {verb.group} | {verb.answers} | {verb.destroys} | {codes} | {shown(verb.access)} |"
        in _text()
    )


def test_the_table_has_no_other_rows() -> None:
    """A verb that is gone is gone from the page."""
    assert re.findall(r"^\| `([\w-]+)` \|", _text(), re.MULTILINE) == [verb.name for verb in VERBS]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_page_explains_every_option(verb: Verb) -> None:
    """No option is missing from the section of its verb, and none is there that does not exist."""
    section = _section(verb)
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section))
    assert _options(verb) <= named
    assert named - _COMMON <= _options(verb)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_exit_code_is_one_of_errors(verb: Verb) -> None:
    """No verb ends with a number that docs/errors.md does not explain."""
    known = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert set(verb.exit_codes) <= known
    assert list(verb.exit_codes) == sorted(verb.exit_codes)


def test_the_shell_completes_what_the_program_takes() -> None:
    """The parser for completion has every verb with its options."""
    words = ["plan", "STATE", "-f", "x", "--json"]
    arguments = full_parser().parse_args(words)
    assert (arguments.verb, arguments.volumes, arguments.file, arguments.json) == ("plan", ["STATE"], "x", True)
    for verb in VERBS:
        assert verb.name in full_parser().format_help()
