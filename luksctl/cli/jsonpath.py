"""`-o jsonpath=TEMPLATE`: text with expressions in braces, as kubectl and talosctl take it.

    {.spec}   {.metadata['id']}   {.spec.keys[0]}   {.spec.keys[-1]}   {.items[*].name}

A text comes as it is, everything else as JSON; several values are a space apart, and a field that is not there is an
error. Recursion, filters, slices and ranges are not understood, and said to be so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from luksctl.errors import UsageError
from luksctl.hints import Any, Final

# What follows another part of a path: .name, ['name'], ["name"], [number], [*], .*
_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]{}'"\s*?@]+) | \[(?P<quote>['"])(?P<quoted>[^'"]*)(?P=quote)\] | \[(?P<index>-?\d{1,9})\]
      | (?P<all>\[\*\]|\.\*)""",
    re.VERBOSE,
)
_PART: Final = re.compile(
    r"""(?P<text>[^{}]+) | \{(?P<inner>(?:[^{}"']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')*)\}""", re.VERBOSE
)

Template = Callable[[Any], str]
Step = Callable[[Any], list[Any]]


def read_template(text: str) -> Template:
    """Return what makes text of a value; UsageError where the template is not understood."""
    parts: list[Template] = []
    at = 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise UsageError(f"jsonpath: a brace has no partner, behind {text[:at]!r}")
        at = part.end()
        parts.append(_literal(part["text"]) if part["text"] is not None else _expression(part["inner"].strip()))
    return lambda value: "".join(part(value) for part in parts)


def _literal(text: str) -> Template:
    return lambda _: text


def _expression(inner: str) -> Template:
    if inner[:1] in {'"', "'"}:
        try:
            return _literal(json.loads(f'"{inner[1:-1]}"'))
        except ValueError as error:
            raise UsageError(f"jsonpath: {inner} is no text") from error
    path = inner.removeprefix("$").removeprefix("@")
    if path in {"", "."}:
        return _shown([])
    steps = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            hint = ".name, ['name'], [number] and [*] are understood"
            raise UsageError(f"jsonpath: {{{inner}}} is not understood at {path[at:]!r}", hint=hint)
        at = step.end()
        steps.append(_step(step, inner))
    return _shown(steps)


def _shown(steps: list[Step]) -> Template:
    def show(value: Any) -> str:
        found = [value]
        for step in steps:
            found = [below for each in found for below in step(each)]
        return " ".join(each if isinstance(each, str) else json.dumps(each) for each in found)

    return show


def _step(step: re.Match[str], inner: str) -> Step:
    if step["all"] is not None:
        return _all_of
    if step["index"] is not None:
        return lambda value: [_at(value, int(step["index"]), inner)]
    name = step["name"] if step["name"] is not None else step["quoted"]
    return lambda value: [_field(value, name, inner)]


def _all_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _field(value: Any, name: str, inner: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise UsageError(f"jsonpath: {{{inner}}}: {name} is not found")
    return value[name]


def _at(value: Any, index: int, inner: str) -> Any:
    if not isinstance(value, list) or not -len(value) <= index < len(value):
        raise UsageError(f"jsonpath: {{{inner}}}: there is no element {index}")
    return value[index]
