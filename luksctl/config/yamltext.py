"""YAML text to nodes: YAML 1.2 core scalars, bounded depth, and no content in error messages.

PyYAML alone would read YAML 1.1 (`on`, `yes`, 0755), keep the last of two equal keys, and overflow the C stack on
deeply nested input. Nodes keep their marks: `index` counts characters of `decode()`'s text, `line` from 0.
"""

from __future__ import annotations

import re

from yaml._yaml import CParser
from yaml.composer import ComposerError
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import CollectionNode, MappingNode, Node
from yaml.reader import ReaderError
from yaml.resolver import BaseResolver

from luksctl.config.report import Report
from luksctl.hints import Final, final
from luksctl.units import MIB, format_size

TAG_TEXT: Final = "tag:yaml.org,2002:str"
TAG_NULL: Final = "tag:yaml.org,2002:null"
TAG_FLAG: Final = "tag:yaml.org,2002:bool"
TAG_WHOLE: Final = "tag:yaml.org,2002:int"
TAG_FLOAT: Final = "tag:yaml.org,2002:float"
TAG_MAP: Final = "tag:yaml.org,2002:map"
TAG_LIST: Final = "tag:yaml.org,2002:seq"

BYTE_ORDER_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_MARK_WITHIN: Final = re.compile(f"^{BYTE_ORDER_MARK}", re.MULTILINE)
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
MAX_DEPTH: Final = 1000
# A config of three thousand lines has a tenth of a megabyte. Whoever reads a text need not read more of it than this.
MAX_BYTES: Final = 4 * MIB
# So many values may a document have once its aliases are written out, as some readers do.
MAX_VALUES: Final = 1_000_000
ENDLESS: Final = f"aliases that stand for more than {MAX_VALUES:,} values"
NO_ANCHOR: Final = "an alias (*name) without its anchor (&name)"
QUOTE_ALIAS: Final = "quote the value if the * or & belongs to it"
# Composing recurses in C and overflows an 8 MiB stack somewhere above 20,000 levels.
_DEPTH_NOBODY_NEEDS_TO_COUNT: Final = 8000


@final
class CoreParser(CParser, BaseResolver):
    """libyaml's parser and composer with the implicit types of the YAML 1.2 core schema."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        BaseResolver.__init__(self)


_CORE_SCHEMA: Final = (
    (TAG_NULL, r"~|null|Null|NULL|", ("~", "n", "N", "")),
    (TAG_FLAG, r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    (TAG_WHOLE, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    (
        TAG_FLOAT,
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
)
_RULES: Final = tuple(
    (tag, re.compile(rf"(?:{pattern})\Z").match, frozenset(first)) for tag, pattern, first in _CORE_SCHEMA
)
for _tag, _pattern, _first in _CORE_SCHEMA:
    CoreParser.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def tag_of(plain: str) -> str:
    """Return the tag that the core schema gives to a plain scalar."""
    for tag, matches, first in _RULES:
        if plain[:1] in first and matches(plain):
            return tag
    return TAG_TEXT


def line_of(node: Node) -> int:
    """Return the 1-based line on which `node` starts."""
    line: int = node.start_mark.line
    return line + 1


def decode(text: bytes, report: Report) -> str:
    """Return `text` without a byte order mark in front; empty, with the problem noted, where it is no UTF-8 text.

    Or where it is too long, or has further such marks: files were joined, and to the parser they are part of a word.
    """
    if len(text) > MAX_BYTES:
        report.error(1, "", f"the text has more than {format_size(MAX_BYTES)}, which no config needs")
        return ""
    try:
        characters = text.decode().removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        hint = "it looks like UTF-16: save it as UTF-8" if text.startswith(_UTF_16_MARKS) else "save it as UTF-8"
        report.error(text.count(b"\n", 0, error.start) + 1, "", "the text is not UTF-8", hint)
        return ""
    within = _MARK_WITHIN.search(characters) if BYTE_ORDER_MARK in characters else None
    if within is None:
        return characters
    line = characters.count("\n", 0, within.start()) + 1
    report.error(line, "", "a byte order mark amid the text", "take it out: it stands where files were joined")
    return ""


def load_documents(characters: str, report: Report) -> list[Node]:
    """Return the root node of each document of what `decode` gave, null documents included.

    A syntax error is noted in `report` and ends the list; what stands before it is returned, to be checked as well.
    Messages never quote the text: a passphrase that is not quoted may be what the parser stumbles over.
    """
    roots: list[Node] = []
    try:
        if _too_deep(characters):
            report.error(1, "", f"the text is nested more than {MAX_DEPTH} levels deep")
            return []
        _compose(characters, roots)
    except YAMLError as error:
        note_syntax(error, characters, report)
    if "*" in characters:
        _refuse_endless(roots, report)
    return roots


def note_syntax(error: YAMLError, characters: str, report: Report) -> None:
    """Note in `report` what the parser stumbled over, without quoting it."""
    if isinstance(error, ReaderError):
        hint = "is it UTF-16, or no text at all? save it as UTF-8" if "\0" in characters else None
        line = _line_at_byte(characters, error.position)
        report.error(line, "", "a control character, which YAML does not allow", hint)
    elif isinstance(error, ComposerError):
        twice = "anchor" in (error.context or "")
        report.error(_error_line(error), "", "an anchor is given twice" if twice else NO_ANCHOR, QUOTE_ALIAS)
    elif isinstance(error, MarkedYAMLError):
        parts = [part for part in (error.problem, error.context) if part]
        line = _error_line(error)
        at_tab = "\t" in (error.problem or "") or _begins_with_tab(characters, line)
        hint = "indent with spaces: YAML does not allow tabs there" if at_tab else None
        report.error(line, "", f"not valid YAML: {', '.join(parts)}", hint)
    else:
        raise error


def _begins_with_tab(characters: str, line: int) -> bool:
    text = characters.split("\n", line)[line - 1 : line]
    return bool(text) and "\t" in text[0][: len(text[0]) - len(text[0].lstrip())]


def _refuse_endless(roots: list[Node], report: Report) -> None:
    """Note a document that has more than MAX_VALUES values once its aliases are written out, or endlessly many."""
    sizes: dict[int, int | None] = {}
    for root in roots:
        pending = [root]
        while pending:
            node = pending[-1]
            below = children(node)
            if id(node) not in sizes:
                sizes[id(node)] = None  # not known yet: whoever finds this holds itself
                pending += [child for child in below if id(child) not in sizes]
                continue
            pending.pop()
            known = [sizes[id(child)] for child in below]
            sizes[id(node)] = MAX_VALUES + 1 if None in known else 1 + sum(size or 0 for size in known)
        if (sizes[id(root)] or 0) > MAX_VALUES:
            report.error(line_of(root), "", ENDLESS, QUOTE_ALIAS)


def children(node: Node) -> list[Node]:
    """Return what a node holds, keys and values alike."""
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, CollectionNode) else []


def _compose(characters: str, roots: list[Node]) -> None:
    parser = CoreParser(characters)
    try:
        while parser.check_node():
            root = parser.get_node()
            if root is not None:
                roots.append(root)
    finally:
        parser.dispose()


def _too_deep(characters: str) -> bool:
    # Each flow level needs a bracket, each block level a column; both may hold two levels ("[a: [b: …", "a:\n- b:").
    longest_line = max(map(len, characters.split("\n")))
    brackets = characters.count("[") + characters.count("{")
    if 2 * (longest_line + brackets + 1) <= _DEPTH_NOBODY_NEEDS_TO_COUNT:
        return False
    return _depth_exceeds(characters, MAX_DEPTH)


def _depth_exceeds(characters: str, limit: int) -> bool:
    parser = CoreParser(characters)
    depth = 0
    try:
        while (event := parser.get_event()) is not None:
            if isinstance(event, CollectionStartEvent):
                depth += 1
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
            if depth > limit:
                return True
    except YAMLError:
        return False  # composing stops at the same place, with a message
    finally:
        parser.dispose()
    return False


def _error_line(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return 1 if mark is None else int(mark.line) + 1


def _line_at_byte(characters: str, position: int) -> int:
    return characters.encode().count(b"\n", 0, position) + 1
