"""JSON patches (RFC 6902): each operation, in JSON and in YAML, and what is wrong with one that does not apply."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.config.patches import patched, problem, values

BASE = """
    # the node
    machine:
      type: worker # a word
      l: [a, b]
      m:
        - name: x # first
        - name: y # second
      a/b: 1
      on: true
      number: 1.0
    """


def _after(*operations: dict[str, Any]) -> Any:
    return values(patched(BASE, json.dumps(operations)))[0]["machine"]


def test_each_operation() -> None:
    """Add, remove, replace, move, copy and test, on mappings and lists."""
    after = _after(
        {"op": "test", "path": "/machine/type", "value": "worker"},
        {"op": "add", "path": "/machine/l/1", "value": "z"},
        {"op": "add", "path": "/machine/l/-", "value": {"k": [None, True, 1.5]}},
        {"op": "remove", "path": "/machine/m/0"},
        {"op": "replace", "path": "/machine/type", "value": "controlplane"},
        {"op": "copy", "from": "/machine/m/0", "path": "/machine/copied"},
        {"op": "move", "from": "/machine/a~1b", "path": "/machine/moved"},
    )
    assert after == {
        "type": "controlplane",
        "l": ["a", "z", "b", {"k": [None, True, 1.5]}],
        "m": [{"name": "y"}],
        "on": True,
        "number": 1.0,
        "copied": {"name": "y"},
        "moved": 1,
    }


def test_what_stays_keeps_its_comments() -> None:
    """Talos loses them all; here only those of what was removed go."""
    operations = '[{"op":"remove","path":"/machine/m/0"},{"op":"replace","path":"/machine/type","value":"x"}]'
    after = patched(BASE, operations)
    assert after.startswith("# the node\nmachine:\n  type: x # a word\n  l: [a, b]\n")
    assert "# second" in after
    assert "# first" not in after


@pytest.mark.parametrize(
    ("value", "same"), [(True, True), (1, False), ("true", False), (None, False), ([], False), ({"a": 1}, False)]
)
def test_a_test_tells_types_apart(value: object, same: bool) -> None:  # noqa: FBT001
    """True is neither 1 nor text; but 1 is 1.0."""
    operation = {"op": "test", "path": "/machine/on", "value": value}
    if same:
        assert patched(BASE, json.dumps([operation])) == patched(BASE)
    else:
        assert "test failed" in problem(BASE, json.dumps([operation])).message
    assert _after({"op": "test", "path": "/machine/number", "value": 1})


def test_a_failed_test_shows_no_value() -> None:
    """It could be a passphrase."""
    base = "machine: {passphrase: marker-in-the-config}"
    found = problem(base, '[{"op": "test", "path": "/machine/passphrase", "value": "marker-in-the-patch"}]')
    assert "marker" not in str(found) + str(found.hint)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ({"op": "replace", "path": "/machine/none", "value": 1}, "no such place"),
        ({"op": "remove", "path": "/machine/none"}, "no such place"),
        ({"op": "remove", "path": "/machine/l/2"}, "no such place"),
        ({"op": "add", "path": "/machine/l/9", "value": 1}, "no such place"),
        ({"op": "add", "path": "/machine/l/x", "value": 1}, "no such place"),
        ({"op": "add", "path": "/none/below", "value": 1}, "no such place"),
        ({"op": "add", "path": "/machine/type/below", "value": 1}, "no such place"),
        ({"op": "copy", "from": "/none", "path": "/machine/x"}, "no such place"),
        ({"op": "move", "from": "/machine", "path": "/machine/x"}, "cannot move into itself"),
        ({"op": "test", "path": "/machine/none", "value": 1}, "no such place"),
        ({"op": "append", "path": "/machine", "value": 1}, "op must be one of"),
        ({"op": ["add"], "path": "/machine", "value": 1}, "op must be one of"),
        ({"path": "/machine", "value": 1}, "op must be one of"),
        ({"op": "add", "path": "/machine"}, "add needs value"),
        ({"op": "move", "path": "/machine"}, "move needs from"),
        ({"op": "remove"}, "remove needs path"),
        ({"op": "remove", "path": "machine"}, "path must be a pointer"),
        ({"op": "remove", "path": 7}, "path must be a pointer"),
    ],
)
def test_what_does_not_apply(operation: dict[str, Any], said: str) -> None:
    """The operation is named by its number and path, and nothing came of those before it either."""
    good = {"op": "add", "path": "/machine/new", "value": 1}
    found = problem(BASE, json.dumps([good, operation]))
    assert said in found.message
    assert found.path.startswith("operation 2")
    assert (found.file, found.line) == ("patch 1", 1)


def test_operations_in_yaml_have_lines() -> None:
    """So that one of fifty is found."""
    found = problem(BASE, "- {op: test, path: /machine/type, value: worker}\n# no\n- op: remove\n  path: /none\n")
    assert (found.line, found.path) == (3, "operation 2 (remove /none)")


@pytest.mark.parametrize("documents", ["machine: {}\n---\napiVersion: v1\nkind: K\n", "", "# nothing\n---\n"])
def test_more_or_less_than_one_document(documents: str) -> None:
    """Operations do not say which document they mean; the reason is given."""
    found = problem(documents, '[{"op": "add", "path": "/machine/a", "value": 1}]')
    assert ("several documents" in found.message) == bool("kind" in documents)


def test_a_document_that_an_earlier_patch_removed_does_not_count() -> None:
    """What counts is the config as it stands then."""
    base = "machine: {}\n---\napiVersion: v1\nkind: K\n"
    operation = '[{"op": "add", "path": "/machine/a", "value": 1}]'
    assert values(patched(base, "apiVersion: v1\nkind: K\n$patch: delete", operation)) == [{"machine": {"a": 1}}]


def test_keys_that_json_cannot_tell_apart() -> None:
    """A pair of them would be lost without a word."""
    assert (
        "cannot tell two keys" in problem('machine: {1: a, "1": b}', '[{"op": "remove", "path": "/machine"}]').message
    )


def test_a_text_is_no_merge_key() -> None:
    """What merges in YAML is a key like any other in JSON, and a value, too."""
    after = _after(
        {"op": "add", "path": "/machine/<<", "value": {"x": "<<"}}, {"op": "add", "path": "/machine/y", "value": "<<"}
    )
    assert after["<<"] == {"x": "<<"}
    assert after["y"] == "<<"
    assert "x" not in after


def test_a_move_onto_itself() -> None:
    """It is nothing, if there is something to move."""
    assert _after({"op": "move", "from": "/machine/l", "path": "/machine/l"})["l"] == ["a", "b"]
    for path in ("/machine/l/-", "/machine/none"):
        found = problem(BASE, json.dumps([{"op": "move", "from": path, "path": path}]))
        assert "no such place" in found.message


def test_copies_of_copies_end() -> None:
    """Each of these operations doubles the config; nobody waits for the end of a hundred."""
    double = [{"op": "copy", "from": "/machine", "path": f"/machine/x{number}"} for number in range(100)]
    assert "values" in problem(BASE, json.dumps(double)).message


def test_depth_is_bounded() -> None:
    """Of one value, and of values put into one another."""
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert "levels" in problem(BASE, json.dumps([{"op": "add", "path": "/machine/l", "value": deep}])).message
    path, steps = "/machine", []
    for _ in range(300):
        path += "/d"
        steps.append({"op": "add", "path": path, "value": {}})
    assert "levels" in problem(BASE, json.dumps(steps)).message


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON patches are an extra of the package; strategic ones are not."""
    monkeypatch.setitem(sys.modules, "jsonpatch", None)
    found = problem(BASE, '[{"op": "remove", "path": "/machine/on"}]')
    assert found.hint == "pip install 'luksctl[edit]'"
    assert values(patched(BASE, "machine: {on: false}"))[0]["machine"]["on"] is False


def test_a_large_list_of_operations() -> None:
    """Many operations in one patch work on one another's results."""
    many = [{"op": "add", "path": "/machine/l/-", "value": number} for number in range(300)]
    assert _after(*many)["l"] == ["a", "b", *range(300)]
