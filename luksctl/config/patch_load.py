"""Read patches: a strategic merge patch or a JSON patch, told by its content."""

from __future__ import annotations

import json

from luksctl.config.report import Report
from luksctl.config.split import DIRECTIVE, refuse_duplicate_keys
from luksctl.config.tree import Alias, Document, Mapping, Node, Scalar, Sequence, effective, grow, is_merge, is_null
from luksctl.config.yamltext import TAG_TEXT, decode, load_documents
from luksctl.hints import Any, Final
from luksctl.value import field, frozen

_FORMS: Final = "a patch is a part of a machine config, or a list of operations (RFC 6902)"


@frozen
class PatchText:
    """A patch as it was given; `source` names it in messages. It may hold passphrases."""

    text: bytes = field(repr=False)
    source: str


@frozen
class StrategicPatch:
    """Incomplete documents, to be merged. Without aliases: each place has its own."""

    documents: tuple[Mapping, ...] = field(repr=False)
    source: str


@frozen
class JsonPatch:
    """Operations of RFC 6902 as plain values, each with its line."""

    operations: tuple[tuple[Any, int], ...] = field(repr=False)
    source: str


def load_patch(given: PatchText) -> StrategicPatch | JsonPatch:
    """Return what kind of patch it is, and what it holds; ConfigError with every problem found."""
    report = Report(given.source)
    operations = _as_json(given.text)
    if operations is not None:
        return JsonPatch(tuple((operation, 1) for operation in operations), given.source)
    characters = decode(given.text, report)
    for root in load_documents(characters, report):
        refuse_duplicate_keys(root, "", report)
    report.raise_problems()
    documents = grow(characters, report)
    report.raise_problems()
    loaded = _of_documents(documents, given.source, report)
    report.raise_problems()
    return loaded


def _as_json(text: bytes) -> list[Any] | None:
    """Return the operations of a JSON patch in JSON proper, which not every YAML reader takes; None otherwise."""
    if not text.lstrip().startswith(b"["):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and value and all(isinstance(item, dict) for item in value) else None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _of_documents(documents: list[Document], source: str, report: Report) -> StrategicPatch | JsonPatch:
    for document in documents:
        if document.root is not None:
            _refuse_other_directives(document.root, report)
    roots = [flattened(document.root) for document in documents if document.root is not None]
    if not roots:
        report.error(1, "", "the patch is empty", _FORMS)
    if len(roots) == 1 and isinstance(roots[0], Sequence):
        operations = roots[0].items
        if not operations:
            report.error(roots[0].line, "", "the list of operations is empty", _FORMS)
        for item in operations:
            if not isinstance(item, Mapping):
                report.error(item.line, "", "an operation must be a mapping", _FORMS)
        return JsonPatch(tuple((plain(item), item.line) for item in operations), source)
    mappings: list[Mapping] = []
    for root in roots:
        if isinstance(root, Mapping):
            mappings.append(root)
        else:
            report.error(root.line, "", "neither a part of a machine config nor a list of operations", _FORMS)
    return StrategicPatch(tuple(mappings), source)


def _refuse_other_directives(root: Node, report: Report) -> None:
    pending = [root]
    for node in pending:
        if isinstance(node, Sequence):
            pending += node.items
        elif isinstance(node, Mapping):
            for key, value in node.entries:
                pending.append(value)
                given = value.value if isinstance(value, Scalar) else None
                if isinstance(key, Scalar) and key.value == DIRECTIVE and given != "delete":
                    report.error(key.line, "", f"the only {DIRECTIVE} is delete", f"write {DIRECTIVE}: delete")


def flattened(node: Node) -> Node:
    """Return `node` with every alias and merge key written out."""
    if isinstance(node, Alias):
        return flattened(node.target)
    if isinstance(node, Sequence):
        items = [flattened(item) for item in node.items]
        return node if _all_same(items, node.items) else node.derive(items)
    if not isinstance(node, Mapping):
        return node
    entries = [(flattened(key), flattened(value)) for key, value in effective(node)]
    parts = [part for pair in entries for part in pair]
    if not any(is_merge(key) for key, _ in node.entries) and _all_same(
        parts, [part for pair in node.entries for part in pair]
    ):
        return node
    return node.derive(entries)


def _all_same(left: list[Node], right: list[Node]) -> bool:
    return len(left) == len(right) and all(one is other for one, other in zip(left, right, strict=True))


def plain(node: Node) -> Any:
    """Return a flattened node as the plain values of JSON; keys become text."""
    if isinstance(node, Mapping):
        return {key.value if isinstance(key, Scalar) else "": plain(value) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    return leaf(node)


def leaf(scalar: Scalar) -> Any:
    """Return a scalar as a plain value; one that JSON does not have, as what stands for it and nothing else."""
    if scalar.tag == TAG_TEXT:
        return scalar.value
    if is_null(scalar):
        return None
    try:
        value = json.loads(scalar.value.lower())
    except ValueError:
        return Opaque(scalar)
    return value if isinstance(value, bool | int | float) and scalar.value.lower() != "nan" else Opaque(scalar)


class Opaque:
    """A value that JSON does not have (octal numbers, infinity, tags of one's own): equal to what is written alike."""

    __slots__ = ("scalar",)

    def __init__(self, scalar: Scalar) -> None:
        self.scalar = scalar

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Opaque):
            return NotImplemented
        return (self.scalar.tag, self.scalar.value) == (other.scalar.tag, other.scalar.value)

    def __hash__(self) -> int:
        return hash((self.scalar.tag, self.scalar.value))
