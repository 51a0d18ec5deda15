"""What a YAML node is: its kind in words, null, and the pairs of a mapping with what it merges."""

from __future__ import annotations

from collections.abc import Iterator

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from luksctl.config.yamltext import TAG_FLAG, TAG_FLOAT, TAG_NULL, TAG_TEXT, TAG_WHOLE
from luksctl.hints import Final

_MERGE_KEY: Final = "<<"
_KINDS: Final = {
    TAG_TEXT: "text",
    TAG_NULL: "empty",
    TAG_FLAG: "true or false",
    TAG_WHOLE: "a number",
    TAG_FLOAT: "a number",
}


def join(path: str, name: str) -> str:
    """Return the YAML path of field `name` below `path`."""
    return f"{path}.{name}" if path else name


def is_null(node: Node) -> bool:
    """Tell whether `node` is an empty value or one of the words for null."""
    return isinstance(node, ScalarNode) and node.tag == TAG_NULL


def kind_of(node: Node) -> str:
    """Return what `node` is, in words, without quoting it."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    return _KINDS.get(node.tag, "a value with a tag")


def is_merge_key(key: Node) -> bool:
    """Tell whether `key` is the plain `<<` that takes over another mapping."""
    return isinstance(key, ScalarNode) and key.value == _MERGE_KEY and not key.style and key.tag == TAG_TEXT


def _merged(node: Node) -> list[MappingNode]:
    sources = node.value if isinstance(node, SequenceNode) else [node]
    return [source for source in sources if isinstance(source, MappingNode)]


def pairs(root: MappingNode) -> Iterator[tuple[Node, Node]]:
    """Yield the pairs of `root` and of what it merges, the pairs that win first; each mapping is visited once."""
    pending = [root]
    visited: set[int] = set()
    while pending:
        mapping = pending.pop()
        if id(mapping) in visited:
            continue
        visited.add(id(mapping))
        sources: list[MappingNode] = []
        for key, value in mapping.value:
            if is_merge_key(key):
                sources += _merged(value)
            else:
                yield key, value
        pending += reversed(sources)
