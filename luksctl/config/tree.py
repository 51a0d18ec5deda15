"""A YAML text as trees that know where everything stands, so that a change touches only the bytes it is about.

Composed nodes (luksctl.config.yamltext) do not tell where an alias stands, nor where a block ends without the comments
behind it; the parser's events do. A tree is never changed: a patch makes new collections, which remember in `origin`
the one of the text that they came from, and share every part that stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from yaml.error import YAMLError
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from luksctl.config.report import Report
from luksctl.config.yamltext import (
    ENDLESS,
    MAX_VALUES,
    NO_ANCHOR,
    QUOTE_ALIAS,
    TAG_LIST,
    TAG_MAP,
    TAG_NULL,
    TAG_TEXT,
    CoreParser,
    note_syntax,
    tag_of,
)
from luksctl.hints import Any, Final, final

# More levels than any config has, and few enough to go down them by recursion.
MAX_DEPTH: Final = 200


class Node:
    """What every node has: where its text starts and ends (index), its 1-based line, and the file of that line."""

    __slots__ = ("anchor", "column", "end", "line", "size", "source", "start", "tag")

    def __init__(self, tag: str, start: int, end: int, line: int, source: str) -> None:
        self.tag = tag
        self.start = start
        self.end = end
        self.line = line
        self.source = source
        self.anchor: str | None = None
        self.column = 0  # of collections only
        self.size = 1  # how many values it is, once aliases are written out


@final
class Scalar(Node):
    """A value that holds no others; `style` is empty where it is plain."""

    __slots__ = ("style", "value")

    def __init__(self, tag: str, value: str, style: str, mark: tuple[int, int, int, str]) -> None:
        super().__init__(tag, *mark)
        self.value = value
        self.style = style


@final
class Mapping(Node):
    """Pairs in their order. `flow` is the form with braces."""

    __slots__ = ("entries", "flow", "origin")

    def __init__(
        self, tag: str, entries: list[tuple[Node, Node]], mark: tuple[int, int, int, str], *, flow: bool
    ) -> None:
        super().__init__(tag, *mark)
        self.entries = entries
        self.flow = flow
        self.origin: Mapping | None = self

    def derive(self, entries: list[tuple[Node, Node]]) -> Mapping:
        """Return a mapping with other pairs that stands in place of this one."""
        derived = Mapping(self.tag, entries, (self.start, self.end, self.line, self.source), flow=self.flow)
        derived.origin = self.origin
        return derived

    def detached(self) -> Mapping:
        """Return this mapping, which was made and stands in no text."""
        self.origin = None
        return self

    def find(self, name: str) -> Node | None:
        """Return the value of the text key `name`, of this mapping itself or merged into it; aliases as they are."""
        for key, value in effective(self):
            if isinstance(key, Scalar) and key.tag == TAG_TEXT and key.value == name:
                return value
        return None


@final
class Sequence(Node):
    """Elements in their order. `flow` is the form with brackets."""

    __slots__ = ("flow", "items", "origin")

    def __init__(self, tag: str, items: list[Node], mark: tuple[int, int, int, str], *, flow: bool) -> None:
        super().__init__(tag, *mark)
        self.items = items
        self.flow = flow
        self.origin: Sequence | None = self

    def derive(self, items: list[Node]) -> Sequence:
        """Return a list with other elements that stands in place of this one."""
        derived = Sequence(self.tag, items, (self.start, self.end, self.line, self.source), flow=self.flow)
        derived.origin = self.origin
        return derived

    def detached(self) -> Sequence:
        """Return this list, which was made and stands in no text."""
        self.origin = None
        return self


@final
class Alias(Node):
    """A place that refers to `target`, an anchored node before it."""

    __slots__ = ("target",)

    def __init__(self, target: Node, mark: tuple[int, int, int, str]) -> None:
        super().__init__(target.tag, *mark)
        self.target = target


@final
class Document:
    """One document: its root, and where in the text it starts (at its `---`, if it has one)."""

    __slots__ = ("aliases", "explicit", "root", "start")

    def __init__(self, start: int, *, explicit: bool) -> None:
        self.start = start
        self.explicit = explicit
        self.root: Node | None = None
        self.aliases: list[Alias] = []


def solid(node: Node) -> Node:
    """Return what `node` stands for."""
    return node.target if isinstance(node, Alias) else node


def is_null(node: Node) -> bool:
    """Tell whether `node` is an empty value or one of the words for null."""
    return node.tag == TAG_NULL and isinstance(solid(node), Scalar)


def is_merge(key: Node) -> bool:
    """Tell whether `key` is the plain `<<` that takes over another mapping."""
    return isinstance(key, Scalar) and key.value == "<<" and not key.style and key.tag == TAG_TEXT


def effective(mapping: Mapping) -> Iterator[tuple[Node, Node]]:
    """Yield the pairs of `mapping` and of what it merges, each key once, the pair that wins."""
    seen: set[tuple[str, str]] = set()
    pending, visited = [mapping], set[int]()
    while pending:
        here = pending.pop()
        if id(here) in visited:
            continue
        visited.add(id(here))
        merged: list[Mapping] = []
        for key, value in here.entries:
            if is_merge(key):
                below = solid(value)
                sources = [solid(item) for item in below.items] if isinstance(below, Sequence) else [below]
                merged += [source for source in sources if isinstance(source, Mapping)]
            elif not isinstance(key, Scalar) or (key.tag, key.value) not in seen:
                if isinstance(key, Scalar):
                    seen.add((key.tag, key.value))
                yield key, value
        pending += reversed(merged)


def grow(characters: str, report: Report) -> list[Document]:
    """Return the documents of what `decode` gave, those without content left out.

    Problems are noted in `report`, in the words of load_documents: it and this say the same of the same text. So is
    a text that is deeper than MAX_DEPTH, or has more than MAX_VALUES values once its aliases are written out.
    """
    grower = _Grower(characters, report)
    parser = CoreParser(characters)
    try:
        while grower.depth <= MAX_DEPTH and (event := parser.get_event()) is not None:
            grower.take(event)
    except YAMLError as error:
        note_syntax(error, characters, report)
    finally:
        parser.dispose()
    if grower.depth > MAX_DEPTH:
        report.error(1, "", f"the text is nested more than {MAX_DEPTH} levels deep, and cannot be patched")
        return []
    for document in grower.documents:
        if document.root is not None and document.root.size > MAX_VALUES:
            line = document.root.line
            report.error(line, "", ENDLESS, QUOTE_ALIAS)
    return [document for document in grower.documents if document.root is not None and not is_null(document.root)]


@final
class _Grower:
    """Makes trees of events; collections that are not over yet wait in a stack."""

    def __init__(self, characters: str, report: Report) -> None:
        self.documents: list[Document] = []
        self.depth = 0
        self._characters = characters
        self._report = report
        self._open: list[tuple[Any, list[Node]]] = []
        self._anchors: dict[str, Node] = {}

    def take(self, event: Any) -> None:
        if isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._open.append((event, []))
            self.depth = max(self.depth, len(self._open))
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._close(event)
        elif isinstance(event, AliasEvent):
            self._alias(event)
        elif isinstance(event, DocumentStartEvent):
            self._begin(event)

    def _begin(self, event: Any) -> None:
        self.documents.append(Document(event.start_mark.index, explicit=event.explicit))
        self._anchors = {}

    def _scalar(self, event: Any) -> None:
        tag, style = event.tag, event.style or ""
        if tag is None or tag == "!":
            tag = TAG_TEXT if style else tag_of(event.value)
        start, end = event.start_mark.index, event.end_mark.index
        if style in {"|", ">"}:
            end = self._end_of_block(start, end)
        self._add(Scalar(tag, event.value, style, (start, end, event.start_mark.line + 1, self._report.source)), event)

    def _end_of_block(self, start: int, end: int) -> int:
        """Return the end of the last line of a block scalar; with `+` that counts the empty lines below it."""
        text = self._characters[start:end]
        if "+" in text.partition("\n")[0].partition("#")[0]:
            return end - text.endswith("\n") - text.endswith("\r\n")
        return start + len(text.rstrip())

    def _close(self, event: Any) -> None:
        opening, children = self._open.pop()
        flow = bool(opening.flow_style)
        start = opening.start_mark.index
        end = event.end_mark.index if flow or not children else children[-1].end
        mark = (start, end, opening.start_mark.line + 1, self._report.source)
        if isinstance(event, SequenceEndEvent):
            self._add(Sequence(opening.tag or TAG_LIST, children, mark, flow=flow), opening, children)
        else:
            entries = list(zip(children[::2], children[1::2], strict=True))
            self._add(Mapping(opening.tag or TAG_MAP, entries, mark, flow=flow), opening, children)

    def _alias(self, event: Any) -> None:
        target = self._anchors.get(event.anchor)
        if target is None:
            inside = any(opening.anchor == event.anchor for opening, _ in self._open)
            self._report.error(event.start_mark.line + 1, "", ENDLESS if inside else NO_ANCHOR, QUOTE_ALIAS)
            target = Scalar(TAG_NULL, "", "", (0, 0, 1, self._report.source))
        start, end = event.start_mark.index, event.end_mark.index
        alias = Alias(target, (start, end, event.start_mark.line + 1, self._report.source))
        alias.size = target.size
        self.documents[-1].aliases.append(alias)
        self._place(alias)

    def _add(self, node: Node, event: Any, children: list[Node] | None = None) -> None:
        if children is not None:
            node.column = event.start_mark.column
            node.size += sum(child.size for child in children)
        if event.anchor is not None:
            node.anchor = event.anchor
            self._anchors[event.anchor] = node
        self._place(node)

    def _place(self, node: Node) -> None:
        if self._open:
            self._open[-1][1].append(node)
        else:
            self.documents[-1].root = node
