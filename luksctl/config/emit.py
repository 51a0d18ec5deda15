"""Write nodes as YAML text: in block form at a column, or on one line.

Aliases are written out, anchors and comments are left behind, and scalars keep their style where it can be kept.
"""

from __future__ import annotations

import re

from luksctl.config.tree import Mapping, Node, Scalar, Sequence, is_merge, solid
from luksctl.config.yamltext import TAG_FLAG, TAG_FLOAT, TAG_LIST, TAG_MAP, TAG_NULL, TAG_TEXT, TAG_WHOLE, tag_of
from luksctl.hints import Final
from luksctl.value import frozen

_CORE: Final = frozenset({TAG_NULL, TAG_FLAG, TAG_WHOLE, TAG_FLOAT})
# Nothing in it means anything to YAML, in braces neither.
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9_./($^+~-](?:[A-Za-z0-9_./<=>()$^+~;@%*&!|\\?-]|[:](?=[^\s,\[\]{}])|[ ](?=[^#\s:]))*"
)
_PLAIN_IN_BLOCKS: Final = re.compile(r"[^\s#&*!|>'\"%@`\[\]{},?:=<~-](?:[^\s:#]|:(?=\S)|(?<=\S)#| (?=[^#\s]))*")
# What readers of YAML 1.1 take for a flag, a date, a time or a number.
_OTHERWISE: Final = re.compile(
    r"(?i:y|n|yes|no|on|off)|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[:eE+-][-+0-9:.TtZz ]*)?|0[box][0-9A-Fa-f_]+"
)
_NOT_FIRST: Final = re.compile(r"---|\.\.\.|[-?](?:\s|$)")
_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
# Longer keys cannot be followed by a colon on their line.
_LONGEST_KEY: Final = 1000


@frozen
class Layout:
    """How far children stand to the right of their parent: `step` in mappings, `dash` the dashes of a list."""

    step: int = 2
    dash: int = 2


@frozen
class Line:
    """One line of new text, and where it comes from."""

    text: str
    source: str
    line: int


def inline(node: Node, *, flow: bool, json: bool = False) -> str:
    """Return `node` on one line. `flow` is for a place within braces or brackets; `json` asks for text in quotes."""
    node = solid(node)
    if isinstance(node, Scalar):
        return _scalar(node, flow=flow, json=json)
    if isinstance(node, Mapping):
        parts = [
            (inline(key, flow=True, json=json), inline(value, flow=True, json=json)) for key, value in node.entries
        ]
        pairs = (f"{key}: {value}" if len(key) < _LONGEST_KEY else f"? {key} : {value}" for key, value in parts)
        return f"{_tag(node, TAG_MAP)}{{{', '.join(pairs)}}}"
    assert isinstance(node, Sequence)
    items = (inline(item, flow=True, json=json) for item in node.items)
    return f"{_tag(node, TAG_LIST)}[{', '.join(items)}]"


def is_block(node: Node) -> bool:
    """Tell whether `node` takes lines of its own in block form: a collection that is not empty, without a tag."""
    node = solid(node)
    if isinstance(node, Mapping):
        return bool(node.entries) and node.tag == TAG_MAP and all(_is_short(key) for key, _ in node.entries)
    return isinstance(node, Sequence) and bool(node.items) and node.tag == TAG_LIST


def block(node: Node, column: int, layout: Layout) -> list[Line]:
    """Return the lines of a node of which `is_block` is true, each with `column` spaces in front."""
    node = solid(node)
    lines: list[Line] = []
    if isinstance(node, Mapping):
        for key, value in node.entries:
            lines += entry(key, value, column, layout)
    elif isinstance(node, Sequence):
        for item in node.items:
            lines += element(item, column, layout)
    return lines


def entry(key: Node, value: Node, column: int, layout: Layout) -> list[Line]:
    """Return the lines of one pair of a block mapping whose keys stand at `column`."""
    if not _is_short(key):
        texts = (f"{' ' * column}? {inline(key, flow=True)}", f"{' ' * column}: {inline(value, flow=True)}")
        return [Line(text, key.source, key.line) for text in texts]
    head = f"{' ' * column}{_block_key(key)}:"
    if is_block(value):
        inside = layout.dash if isinstance(solid(value), Sequence) else layout.step
        return [Line(head, key.source, key.line), *block(value, column + inside, layout)]
    return _headed(head, value, column + layout.step, key)


def element(item: Node, column: int, layout: Layout) -> list[Line]:
    """Return the lines of one element of a block list whose dashes stand at `column`."""
    pad = " " * column
    if is_block(item):
        first, *rest = block(item, column + 2, layout)
        return [Line(f"{pad}- {first.text.lstrip(' ')}", first.source, first.line), *rest]
    return _headed(f"{pad}-", item, column + 2, item)


def _headed(head: str, value: Node, column: int, place: Node) -> list[Line]:
    value = solid(value)
    if isinstance(value, Scalar) and value.style in {"|", ">"} and (header := _literal_header(value)):
        pad = " " * column
        body = value.value.split("\n")[: -1 if value.value.endswith("\n") else None]
        texts = [f"{head} {header}", *(f"{pad}{text}" if text else "" for text in body)]
        return [Line(text, place.source, value.line + index) for index, text in enumerate(texts)]
    return [Line(f"{head} {inline(value, flow=False)}", place.source, place.line)]


def _literal_header(scalar: Scalar) -> str | None:
    """Return how the text begins as a literal block, None where it cannot be one."""
    value = scalar.value
    ends = len(value) - len(value.rstrip("\n"))
    good = scalar.tag == TAG_TEXT and value[:1] not in {"", " ", "\n"} and _is_printable(value.replace("\n", ""))
    if not good or ends > 1:
        return None
    return "|" if ends else "|-"


def _flow_key(key: Node, *, json: bool) -> str:
    return "<<" if is_merge(key) else inline(key, flow=True, json=json)


def _block_key(key: Node) -> str:
    """Return a key without the quotes that JSON asks for and a block does not."""
    if is_merge(key):
        return "<<"
    scalar = solid(key)
    if isinstance(scalar, Scalar) and scalar.tag == TAG_TEXT and scalar.style == '"' and scalar.value != "<<":
        scalar = Scalar(TAG_TEXT, scalar.value, "", (scalar.start, scalar.end, scalar.line, scalar.source))
    return inline(scalar, flow=True)


def _is_short(key: Node) -> bool:
    return isinstance(solid(key), Scalar) and len(inline(key, flow=True)) < _LONGEST_KEY


def _scalar(scalar: Scalar, *, flow: bool, json: bool) -> str:
    value = scalar.value
    if scalar.tag == TAG_TEXT:
        return _text(scalar, flow=flow, json=json)
    if scalar.tag in _CORE and tag_of(value) == scalar.tag:
        return value or "null"
    return f"{_tag(scalar, TAG_TEXT)}{quoted(value)}"


def _text(scalar: Scalar, *, flow: bool, json: bool) -> str:
    value = scalar.value
    means_text = tag_of(value) == TAG_TEXT and not _OTHERWISE.fullmatch(value)
    if not json and not scalar.style and means_text and not _NOT_FIRST.match(value):
        plain = _PLAIN.fullmatch(value) or (not flow and _PLAIN_IN_BLOCKS.fullmatch(value) and _is_printable(value))
        if plain:
            return value
    if not json and scalar.style == "'" and _is_printable(value) and value:
        return "'" + value.replace("'", "''") + "'"
    return quoted(value)


def _is_printable(text: str) -> bool:
    return text.isprintable()


def quoted(text: str) -> str:
    """Return `text` as a double-quoted scalar on one line; what can be printed stays readable."""
    return f'"{"".join(map(_escape, text))}"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _tag(node: Node, usual: str) -> str:
    """Return a tag that is not the usual one, as it has to stand in front."""
    if node.tag == usual:
        return ""
    return f"{node.tag} " if node.tag.startswith("!") else f"!<{node.tag}> "
