"""Turn a text into that of a changed tree, touching only the bytes that the change is about.

Where a place is written in a form that cannot be edited on the spot, the smallest collection around it is written anew,
without its comments. The result is read again and compared with the tree that was wanted: what a patch means never
hangs on how well the text was edited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as List

from luksctl.config.emit import Layout, Line, block, element, entry, inline, is_block
from luksctl.config.spans import Place, Text
from luksctl.config.tree import Document, Mapping, Node, Scalar, Sequence, solid
from luksctl.hints import Any, Final, final
from luksctl.value import frozen

_BLOCK_HEADER: Final = re.compile(r"[|>][0-9+-]*(?=[ \t]*(?:#[^\n]*)?\r?\n)")


@frozen
class Edit:
    """The new text between two places of the old one; `lines` says where each line of it comes from."""

    start: int
    end: int
    text: str
    lines: tuple[tuple[str, int], ...] = ()


@frozen
class _Child:
    """One pair or element of a collection: where it begins (key or dash), and its value."""

    head: int
    after: int  # behind the colon or the dash
    value: Node
    key: Node | None = None


@final
class Editor:
    """Gathers the edits that lead from the nodes of `text` to others."""

    def __init__(self, characters: str, layout: Layout) -> None:
        self.text = Text(characters)
        self.layout = layout
        self.edits: list[Edit] = []
        self._touched: set[int] = set()

    def document(self, document: Document, wanted: Node) -> None:
        """Change the root of a document, and write out the aliases that refer to what has changed."""
        assert document.root is not None
        self._change(document.root, wanted, Place(after=document.root.start, column=-1))
        for alias in document.aliases:
            if id(alias.target) not in self._touched:
                continue
            if not any(edit.start <= alias.start and alias.end <= edit.end for edit in self.edits):
                self._replace_span(alias.start, alias.end, inline(alias, flow=True), alias)

    def rewrite(self, document: Document, wanted: Node) -> None:
        """Write a document anew."""
        assert document.root is not None
        self._whole(document.root, wanted, Place(after=document.root.start, column=-1))

    def append(self, root: Node) -> None:
        """Add a document at the end of the text."""
        characters = self.text.characters
        newline = self.text.newline
        head = "" if not characters or characters.endswith("\n") else newline
        lines = block(root, 0, self.layout)
        separator = [] if not characters.strip() else [Line("---", root.source, root.line)]
        self._insert(len(characters), [*separator, *lines], before=head, behind=newline)

    def keep_end(self, root: Node | None) -> None:
        """Have a block scalar that the text ends in, without a line break, end in none when more text follows."""
        last = _last(root)
        if not isinstance(last, Scalar) or last.style not in {"|", ">"} or self.text.characters.endswith("\n"):
            return
        header = _BLOCK_HEADER.search(self.text.characters, last.start)
        if header is not None:
            stripped = header[0].replace("+", "").replace("-", "") + "-"
            self.edits.append(Edit(header.start(), header.end(), stripped))

    def remove(self, start: int, end: int) -> None:
        """Remove a part of the text."""
        self.edits.append(Edit(start, end, ""))

    # ---- one value -------------------------------------------------------------------------------------------------

    def _change(self, old: Node, new: Node, place: Place) -> None:
        if new is old:
            return
        self._touched.add(id(old))
        children = self._children(old, new)
        if children is None:
            self._whole(old, new, place)
            return
        assert isinstance(old, Mapping | Sequence)
        kept, added = _matched(children, old, new)
        if not any(value is not None for value in kept):
            self._whole(old, new, place)
        elif old.flow:
            self._flow(children, kept, added)
        elif not self._block(children, kept, added, self.text.column(children[0].head)):
            self._whole(old, new, place)

    def _children(self, old: Node, new: Node) -> list[_Child] | None:
        """Return the children of a collection that `new` is a changed form of; None where it has to be written anew."""
        if isinstance(old, Mapping) and isinstance(new, Mapping) and new.origin is old and new.tag == old.tag:
            afters = [self.text.behind_colon(key.start, key.end) for key, _ in old.entries]
            if None in afters:
                return None
            return [
                _Child(key.start, after or 0, value, key)
                for (key, value), after in zip(old.entries, afters, strict=True)
            ]
        if isinstance(old, Sequence) and isinstance(new, Sequence) and new.origin is old and new.tag == old.tag:
            if old.flow:
                return [_Child(item.start, item.start, item) for item in old.items]
            heads: list[int | None] = []
            position = self.text.behind_properties(old.start)
            for item in old.items:
                heads.append(self.text.dash(position))
                position = item.end
            if None in heads:
                return None
            return [_Child(head or 0, (head or 0) + 1, item) for head, item in zip(heads, old.items, strict=True)]
        return None

    def _whole(self, old: Node, new: Node, place: Place) -> None:
        """Write `new` in place of all of `old`."""
        for node in _all(old):
            self._touched.add(id(node))
        if is_block(new) and not place.flow:
            self._whole_block(old, new, place)
            return
        text = inline(new, flow=place.flow or not isinstance(solid(new), Scalar), json=place.json)
        start, end = old.start, old.end
        gap = self.text.characters[place.after : start]
        if place.column < 0 or place.flow:
            self._replace_span(start, end, text, new)
        elif not gap.strip():
            self._replace_span(place.after, end, f" {text}", new)
        else:
            line_start = self.text.line_start(start)
            pad = " " * max(0, place.column + 1 - (start - line_start)) if line_start > place.after else ""
            self._replace_span(start, end, pad + text, new)

    def _whole_block(self, old: Node, new: Node, place: Place) -> None:
        if place.column < 0:
            head = "" if self.text.is_alone(old.start) else self.text.newline
            self._replace_lines(old.start, old.end, block(new, 0, self.layout), head)
            return
        step = self.layout.dash if isinstance(solid(new), Sequence) else self.layout.step
        lines = block(new, place.column + (2 if place.dash else step), self.layout)
        end_of_line = self.text.line_end(old.end)
        comments = self.text.characters[place.after : max(old.start, place.after)].rstrip()
        behind = self.text.characters[old.end : end_of_line].strip()
        if behind and not behind.startswith("#"):
            # Not the end of its line, which only a form that nobody writes can lead to.
            self._replace_span(place.after, old.end, f" {inline(new, flow=True)}", new)
            return
        head = f"{comments} {behind}".rstrip() if behind else comments
        if head or not place.dash:
            head = head if not head or head.startswith((" ", "\t", "\r", "\n")) else f" {head}"
            self._replace_lines(place.after, end_of_line, lines, head + self.text.newline)
        else:
            first, *rest = lines
            lines = [Line(first.text.lstrip(" "), first.source, first.line), *rest]
            self._replace_lines(place.after, end_of_line, lines, " ")

    # ---- collections -----------------------------------------------------------------------------------------------

    def _flow(self, children: list[_Child], kept: list[Node | None], added: dict[int, list[Any]]) -> None:
        json = self.text.characters[children[0].head] == '"'
        for child, value in zip(children, kept, strict=True):
            if value is not None:
                self._change(child.value, value, Place(child.after, 0, flow=True, json=json))
        first = next(index for index, value in enumerate(kept) if value is not None)
        if first > 0:
            self._gone(children[:first])
            self.remove(children[0].head, children[first].head)
        for index in range(first + 1, len(children)):
            if kept[index] is None:
                self._gone(children[index : index + 1])
                self.remove(children[index - 1].value.end, children[index].value.end)
        for index, news in sorted(added.items()):
            texts = [_on_one_line(new, json=json) for new in news]
            if index < first:
                place = children[first].head
                self._replace_span(place, place, "".join(f"{text}, " for text in texts), _value(news[0]))
            else:
                place = children[index].value.end
                self._replace_span(place, place, "".join(f", {text}" for text in texts), _value(news[0]))

    def _block(self, children: list[_Child], kept: list[Node | None], added: dict[int, list[Any]], column: int) -> bool:
        """Edit a block collection; False, and nothing done, where its first child shares a line and cannot go."""
        text = self.text
        first = next(index for index, value in enumerate(kept) if value is not None)
        alone = text.is_alone(children[0].head)
        if not all(text.is_alone(child.head) for child in children[1:]) or (
            first > 0 and not alone and any(index < first for index in added)
        ):
            return False
        for child, value in zip(children, kept, strict=True):
            if value is not None:
                self._change(child.value, value, Place(child.after, column, dash=child.key is None))
        if first > 0 and not alone:
            self._gone(children[:first])
            self.remove(children[0].head, text.next_content(children[first - 1].value.end))
        for index, child in enumerate(children):
            if kept[index] is None and (alone or index > first):
                self._gone([child])
                self.remove(*text.lines_of(child.head, child.value.end))
        for index, news in sorted(added.items()):
            lines = [line for new in news for line in self._lines(new, column)]
            if index < 0 and kept[0] is not None:
                head, *rest = lines
                head = Line(head.text.lstrip(" "), head.source, head.line)
                self._insert(children[0].head, [head, *rest], behind=text.newline + " " * column)
            else:
                place = text.line_end(children[max(index, 0)].value.end)
                self._insert(place, lines, before=text.newline)
        return True

    def _gone(self, children: List[_Child]) -> None:
        for child in children:
            for part in (child.key, child.value):
                if part is not None:
                    self._touched.update(id(node) for node in _all(part))

    def _lines(self, new: Any, column: int) -> list[Line]:
        if isinstance(new, tuple):
            return entry(new[0], new[1], column, self.layout)
        return element(new, column, self.layout)

    # ---- edits -----------------------------------------------------------------------------------------------------

    def _replace_span(self, start: int, end: int, text: str, node: Node) -> None:
        origin = (solid(node).source, solid(node).line)
        self.edits.append(Edit(start, end, text, (origin,)))

    def _replace_lines(self, start: int, end: int, lines: list[Line], head: str, behind: str = "") -> None:
        origins = tuple((line.source, line.line) for line in lines)
        text = head + self.text.newline.join(line.text for line in lines) + behind
        self.edits.append(Edit(start, end, text, (origins[0],) * head.count("\n") + origins))

    def _insert(self, place: int, lines: list[Line], before: str = "", behind: str = "") -> None:
        self._replace_lines(place, place, lines, before, behind)


def _last(node: Node | None) -> Node | None:
    """Return the value that the text of `node` ends with."""
    while True:
        if isinstance(node, Mapping) and node.entries:
            node = node.entries[-1][1]
        elif isinstance(node, Sequence) and node.items:
            node = node.items[-1]
        else:
            return node


def _matched(
    children: list[_Child], old: Mapping | Sequence, new: Node
) -> tuple[list[Node | None], dict[int, list[Any]]]:
    """Return what became of each child (None: gone), and what is new, by the child before it (-1: before all)."""
    kept: list[Node | None] = [None] * len(children)
    added: dict[int, list[Any]] = {}
    last = -1
    parts: List[Any] = new.entries if isinstance(new, Mapping) else new.items if isinstance(new, Sequence) else ()
    if isinstance(old, Mapping):
        places = {id(key): index for index, (key, _) in enumerate(old.entries)}
    else:
        places = {id(item): index for index, item in enumerate(old.items)}
    for part in parts:
        identity = part[0] if isinstance(part, tuple) else getattr(part, "origin", None) or part
        index = places.get(id(identity), -1)
        if index > last:
            kept[index] = part[1] if isinstance(part, tuple) else part
            last = index
        else:
            added.setdefault(last, []).append(part)
    return kept, added


def _value(new: Any) -> Node:
    node: Node = new[1] if isinstance(new, tuple) else new
    return node


def _on_one_line(new: Any, *, json: bool) -> str:
    if isinstance(new, tuple):
        return f"{inline(new[0], flow=True, json=json)}: {inline(new[1], flow=True, json=json)}"
    return inline(new, flow=True, json=json)


def _all(root: Node) -> list[Node]:
    """Return `root` and all nodes that its text holds; what an alias refers to stands elsewhere."""
    found = [root]
    for node in found:
        if isinstance(node, Mapping):
            found += [part for pair in node.entries for part in pair]
        elif isinstance(node, Sequence):
            found += node.items
    return found
