"""docs/errors.md, errors.py and the tree drawn at its top say the same."""

from __future__ import annotations

import inspect
import re

from luksctl import errors
from luksctl.errors import KeyRejected, KmsRejected, LuksctlError, TokenInvalid, TpmRejected
from tests.house.tree import ROOT

# They end inside luksctl: whoever asked the provider tries the next key.
NEVER_REACH_MAIN = {KeyRejected, KmsRejected, TokenInvalid, TpmRejected}
_ROW = re.compile(r"^\| (?P<code>\d+) \| `(?P<name>\w+)` \|(?: `(?P<parent>\w+)` \|)? (?P<text>.+) \|$")
_DRAWN = re.compile(r"^[ │]*[├└]── (?P<name>\w+) +(?P<code>\d+|-)? .*$")


def _classes() -> dict[str, type[LuksctlError]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: member for name, member in members if issubclass(member, LuksctlError)}


def _rows() -> list[re.Match[str]]:
    lines = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").splitlines()
    return [match for line in lines if (match := _ROW.match(line))]


def test_the_document_lists_every_error_with_its_code() -> None:
    """Names and numbers are those of the classes, each once; nothing else is listed."""
    listed = [(row["name"], int(row["code"])) for row in _rows()]
    meant = {name: kind.exit_code for name, kind in _classes().items() if kind not in NEVER_REACH_MAIN}
    assert sorted(listed) == sorted(meant.items())


def test_the_document_names_the_parent_of_each_special_case() -> None:
    """A row with a third name says which error it is a case of."""
    for row in _rows():
        if row["parent"] is not None:
            assert _classes()[row["name"]].__base__ is _classes()[row["parent"]], row["name"]


def test_special_cases_share_the_code_of_their_parent() -> None:
    """One number means one thing, however fine the class."""
    own_codes: dict[int, str] = {}
    for name, kind in _classes().items():
        if "exit_code" in vars(kind):
            assert own_codes.setdefault(kind.exit_code, name) == name
    assert {0, 2} & {kind.exit_code for kind in _classes().values()} == {2}, "0 is success and never an error"


def test_the_tree_in_the_module_names_every_error() -> None:
    """The drawing at the top of errors.py has the same classes and the same numbers."""
    assert errors.__doc__ is not None
    drawn = {
        match["name"]: match["code"]
        for line in errors.__doc__.splitlines()
        if (match := _DRAWN.match(line.lstrip("\n")[4:]))
    }
    classes = {name: kind for name, kind in _classes().items() if kind is not LuksctlError}
    assert set(drawn) == set(classes)
    for name, code in drawn.items():
        if code not in (None, "-"):
            assert classes[name].exit_code == int(code), name


def test_seam_errors_are_documented_as_internal() -> None:
    """The errors that never reach the user are named as such."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for kind in NEVER_REACH_MAIN:
        assert f"`{kind.__name__}`" in text
