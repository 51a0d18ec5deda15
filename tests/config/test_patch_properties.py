"""Any patch on any config says what a small model of merging says, and leaves the rest as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from luksctl.config.patch_load import PatchText
from luksctl.config.patching import Patched, apply_patches
from luksctl.errors import ConfigError, Problem
from tests.config.patches import values
from tests.config.test_yaml_text import TEXTS as TEXTS_OF_ANY_KIND
from tests.config.yaml_writing import KEYS, SCALARS, TEXTS, Writer, trees

INTERFACES = st.lists(
    st.fixed_dictionaries(
        {"interface": st.sampled_from(["eth0", "eth1", "eth2"])},
        optional={
            "mtu": st.integers(1, 3),
            "addresses": st.lists(st.sampled_from(["10.0.0.1/8", "10.0.0.2/8"]), max_size=2),
            "vlans": st.lists(
                st.fixed_dictionaries({"vlanId": st.integers(1, 3)}, optional={"dhcp": st.booleans()}), max_size=2
            ),
        },
    ),
    max_size=3,
)
MACHINES = st.fixed_dictionaries(
    {"machine": st.dictionaries(KEYS, trees(), max_size=3)},
    optional={
        "cluster": st.fixed_dictionaries(
            {},
            optional={
                "network": st.fixed_dictionaries(
                    {}, optional={"podSubnets": st.lists(TEXTS, max_size=2), "dnsDomain": TEXTS}
                ),
                "other": trees(),
            },
        )
    },
)
NETWORKS = st.builds(
    lambda machine, network: {**machine, "machine": {**machine["machine"], "network": {"interfaces": network}}},
    MACHINES,
    INTERFACES,
)
NAMED = st.builds(
    lambda kind, name, rest: {"apiVersion": "v1alpha1", "kind": kind, "name": name, **rest},
    st.sampled_from(["KmsgLogConfig", "TrustedRootsConfig"]),
    st.sampled_from(["one", "two"]),
    st.dictionaries(KEYS, trees(), max_size=3),
)
REPLACED = {("", "cluster", "network", "podSubnets")}
MATCHED = {
    ("", "machine", "network", "interfaces"): "interface",
    ("", "machine", "network", "interfaces", "vlans"): "vlanId",
}


class CannotMergeError(Exception):
    """The model has no answer: text is not merged with a list."""


def merged(base: Any, patch: Any, path: tuple[str, ...]) -> Any:
    """Return what the rules say of values, without a text in sight."""
    if patch is None or (type(patch) in {str, int} and not patch and base is not None and _scalar(base)):
        return base
    if base is None or path in REPLACED:
        return patch
    if isinstance(base, dict) and isinstance(patch, dict):
        result = dict(base)
        for key, value in patch.items():
            result[key] = merged(base[key], value, (*path, key)) if key in base else value
        return result
    if isinstance(base, list) and isinstance(patch, list):
        result_list = list(base)
        for element in patch:
            selector = MATCHED.get(path)
            place = None
            if selector is not None:
                place = next((i for i, item in enumerate(result_list) if item[selector] == element[selector]), None)
            if place is None:
                result_list.append(element)
            else:
                result_list[place] = merged(result_list[place], element, path)
        return result_list
    if _scalar(base) and _scalar(patch):
        return patch
    raise CannotMergeError


def _scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _identity(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(document.get(name, "")) for name in ("apiVersion", "kind", "name"))


def merged_documents(base: list[dict[str, Any]], patch: list[dict[str, Any]]) -> list[Any]:
    """Return the documents after a patch."""
    result: list[Any] = list(base)
    for document in patch:
        found = [place for place, there in enumerate(result) if _identity(there) == _identity(document)]
        if found:
            result[found[0]] = merged(result[found[0]], document, (_identity(document)[1],))
        else:
            result.append(document)
    return result


@st.composite
def texts(draw: st.DrawFn, *, flow: bool = True) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Return a config of several documents, its values, and its comments."""
    machine = draw(st.none() | MACHINES | NETWORKS)
    documents = [] if machine is None else [machine]
    documents += draw(st.lists(NAMED, max_size=2, unique_by=_identity))
    assume(documents)
    writer = Writer(draw, flow=flow)
    written = [writer.document(document) for document in draw(st.permutations(documents))]
    text = "---\n".join(written)
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    return text, values(text), writer.comments


def _patched(text: str, *patches: str) -> Patched:
    result = apply_patches(text.encode(), "x", [PatchText(patch.encode(), "patch") for patch in patches])
    assert not any("written anew" in note for note in result.notes)
    return result


@given(texts(), texts())
@settings(deadline=None, max_examples=150)
def test_a_merge_gives_what_the_model_gives(
    base: tuple[str, list[dict[str, Any]], list[str]], patch: tuple[str, list[dict[str, Any]], list[str]]
) -> None:
    """Values and their order, in every document; what the model cannot merge is an error."""
    try:
        expected = merged_documents(base[1], patch[1])
    except CannotMergeError:
        with pytest.raises(ConfigError):
            _patched(base[0], patch[0])
        return
    result = _patched(base[0], patch[0])
    assert json.dumps(values(result.text.decode())) == json.dumps(expected)


@given(texts(flow=False), texts())
@settings(deadline=None, max_examples=80)
def test_a_merge_keeps_comments(
    base: tuple[str, list[dict[str, Any]], list[str]], patch: tuple[str, list[dict[str, Any]], list[str]]
) -> None:
    """Every comment of a text in block form is there afterwards, unless its list was replaced, and in its order."""
    assume(not any("cluster" in document for document in base[1]))
    try:
        merged_documents(base[1], patch[1])
    except CannotMergeError:
        assume(condition=False)
    result = _patched(base[0], patch[0])
    text = result.text.decode()
    places = [text.find(comment) for comment in base[2]]
    assert -1 not in places
    assert places == sorted(places)


@given(TEXTS_OF_ANY_KIND, TEXTS_OF_ANY_KIND | st.sampled_from([b"machine: {a: 1}", b"- {op: remove, path: /a}"]))
@settings(deadline=None, max_examples=200)
def test_any_bytes_end_in_a_config_or_in_problems(base: bytes, patch: bytes) -> None:
    """Whatever is given, nothing but ConfigError is raised, and what comes out is a text that can be read."""
    problems: tuple[Problem, ...] = ()
    try:
        apply_patches(base, "x", [PatchText(patch, "patch")]).config()
    except ConfigError as error:
        problems = error.problems
    assert all(problem.file in {"x", "patch"} and problem.message for problem in problems)


@given(texts())
@settings(deadline=None)
def test_without_a_change_no_byte_changes(base: tuple[str, list[dict[str, Any]], list[str]]) -> None:
    """No patch, a patch that says what is there, and one that is taken back leave the bytes as they are."""
    text = base[0].encode()
    assert apply_patches(text, "x", []).text == text
    if not any("machine" in document for document in base[1]):
        return
    there = "- {op: test, path: '', value: 1}\n"
    if len(base[1]) == 1:
        with pytest.raises(ConfigError):
            _patched(base[0], there)
    forth = "machine: {zzz: 1}"
    back = "machine: {zzz: {$patch: delete}}"
    assert values(_patched(base[0], forth, back).text.decode()) == base[1]


@st.composite
def operations(draw: st.DrawFn, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return operations on places of the document, mostly ones that are there."""
    return draw(st.lists(st.one_of(*_operations_at(_pointers(document))), min_size=1, max_size=4))


def _operations_at(pointers: list[str]) -> tuple[st.SearchStrategy[dict[str, Any]], ...]:
    place, other = st.sampled_from(pointers), st.sampled_from([*pointers, "/machine/new", "/nowhere/at/all"])
    leaves = SCALARS.filter(lambda value: value != "\u0085")
    return (
        st.fixed_dictionaries({"op": st.just("add"), "path": other, "value": trees(leaves)}),
        st.fixed_dictionaries({"op": st.just("replace"), "path": place, "value": trees(leaves)}),
        st.fixed_dictionaries({"op": st.just("remove"), "path": other}),
        st.fixed_dictionaries({"op": st.sampled_from(["move", "copy"]), "from": place, "path": other}),
    )


def _pointers(value: Any, prefix: str = "") -> list[str]:
    found = [prefix] if prefix else []
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in parts:
        escaped = str(name).replace("~", "~0").replace("/", "~1")
        found += _pointers(below, f"{prefix}/{escaped}")
    return [*found, f"{prefix}/-"] if isinstance(value, list) else found


@given(st.data(), NETWORKS)
@settings(deadline=None, max_examples=60)
def test_json_operations_do_what_they_say(data: st.DataObject, machine: dict[str, Any]) -> None:
    """The result has the values that the library gives for plain ones, or both refuse."""
    from jsonpatch import JsonPatch, JsonPatchException  # noqa: PLC0415
    from jsonpointer import JsonPointerException  # noqa: PLC0415

    text = data.draw(_written(machine))
    (document,) = values(text)
    todo = data.draw(operations(document))
    try:
        expected = JsonPatch(todo).apply(document)
    except (JsonPatchException, JsonPointerException):
        with pytest.raises(ConfigError):
            _patched(text, json.dumps(todo))
        return
    result = _patched(text, json.dumps(todo)).text.decode()
    assert values(result) == ([] if expected is None else [expected])


@st.composite
def _written(draw: st.DrawFn, machine: dict[str, Any]) -> str:
    return Writer(draw).document(machine)
