"""Templates of paths, as kubectl and talosctl take them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.cli.jsonpath import read_template
from luksctl.errors import UsageError
from tests.cli.desk import Desk, encrypted

VALUE: dict[str, Any] = {
    "node": "n1",
    "spec": {"size": 5, "keys": [{"slot": 0}, {"slot": 1}], "odd name": None, "on": True, "a.b": "dot"},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.node}", "n1"),
        ("{$.node}", "n1"),
        ("{.spec.size} of {.node}", "5 of n1"),
        ("{.spec.keys[*].slot}", "0 1"),
        ("{.spec.keys[-1].slot}", "1"),
        ("{.spec.keys[0]}", '{"slot": 0}'),
        ("{.spec['odd name']}{.spec.on}", "nulltrue"),
        ('{.spec["a.b"]}', "dot"),
        ("{.node}{\"\\n\\t\"}{'}'}", "n1\n\t}"),
        ("{.spec.keys[*].*}", "0 1"),
        ("nothing", "nothing"),
    ],
)
def test_what_a_template_makes(template: str, text: str) -> None:
    """Texts as they are, other values as JSON, several a space apart."""
    assert read_template(template)(VALUE) == text


@pytest.mark.parametrize(
    "template",
    ["{.node", "}", "{..slot}", "{.spec.keys[?(@.slot==0)]}", "{range .spec.keys[*]}", "{.spec.keys[0:1]}", "{'\\x'}"],
)
def test_what_is_not_understood_is_said(template: str) -> None:
    """Nothing is made of half a template."""
    with pytest.raises(UsageError, match="jsonpath"):
        read_template(template)


@pytest.mark.parametrize("template", ["{.nodes}", "{.node.x}", "{.spec.keys[2]}", "{.node[0]}"])
def test_what_is_not_there_is_an_error(template: str) -> None:
    """An empty answer would be taken for a value."""
    with pytest.raises(UsageError, match="jsonpath"):
        read_template(template)(VALUE)


@given(st.text(alphabet="{}[]().*'\"\\@$?a01 ", max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_template_or_a_usage_error(text: str) -> None:
    """Whatever is typed, nothing else is raised."""
    try:
        read_template(text)(VALUE)
    except UsageError:
        return


def test_the_spec_of_the_config_is_its_text(desk: Desk) -> None:
    """The line that Talos' users write to get a config back."""
    desk.write_config(encrypted())
    assert desk.run("get", "mc", "v1alpha1", "-o", "jsonpath={.spec}", "--show-secrets").out == f"{encrypted()}\n"
    assert desk.run("get", "volumestatus", "-o", "jsonpath={.metadata.id} {.spec.phase}").out.count("\n") == 2
    assert desk.run("get", "mc", "-o", "xml").code == 64
