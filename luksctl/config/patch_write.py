"""Write the text of changed documents: edited on the spot, and read again to see that it says what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as List

from luksctl.config.edits import Edit, Editor
from luksctl.config.emit import Layout
from luksctl.config.report import Report
from luksctl.config.tree import Document, Mapping, Node, Scalar, Sequence, grow, is_merge, is_null, solid
from luksctl.value import field, frozen


@frozen
class Written:
    """A text, and what was done to the old one; `anew` where it had to be written without its comments."""

    text: str = field(repr=False)
    edits: tuple[Edit, ...] = field(repr=False)
    anew: bool


def written(characters: str, documents: List[Document], roots: List[Node | None]) -> Written | None:
    """Return the text with `roots` in place of those of `documents` (None: removed), and those behind them added.

    None where it cannot be written so that it reads the same.
    """
    for anew in (False, True):
        editor = Editor(characters, _layout(documents))
        _edit(editor, documents, roots, anew=anew)
        edits = sorted(editor.edits, key=lambda edit: (edit.start, edit.end))
        text = _joined(characters, edits)
        if text is not None and _is_meant(text, edits, documents, roots):
            return Written(text, tuple(edits), anew)
    return None


def _edit(editor: Editor, documents: List[Document], roots: List[Node | None], *, anew: bool) -> None:
    length = len(editor.text.characters)
    starts = [*(document.start for document in documents), length]
    for index, (document, root) in enumerate(zip(documents, roots, strict=False)):
        if root is None:
            editor.remove(document.start, starts[index + 1])
        elif root is document.root:
            continue
        elif not anew:
            editor.document(document, root)
        else:
            editor.rewrite(document, root)
    added = [root for root in roots[len(documents) :] if root is not None]
    if added and documents and roots[len(documents) - 1] is documents[-1].root:
        editor.keep_end(documents[-1].root)
    for root in added:
        editor.append(root)


def _joined(characters: str, edits: list[Edit]) -> str | None:
    pieces: list[str] = []
    copied = 0
    for edit in edits:
        if edit.start < copied:
            return None
        pieces += [characters[copied : edit.start], edit.text]
        copied = edit.end
    return "".join([*pieces, characters[copied:]])


def _is_meant(text: str, edits: list[Edit], documents: List[Document], roots: List[Node | None]) -> bool:
    """Read what was changed again, and tell whether it has the values that were meant.

    Documents that nothing was done to are the same bytes between the same separators, so they are left out.
    """
    count = len(documents)
    starts = [_moved(document.start, edits) for document in documents]
    if starts:
        starts[0] = 0
    for index, (document, root) in enumerate(zip(documents, roots, strict=False)):
        if (
            root is not document.root
            and index + 1 < count
            and not _reads(text[starts[index] : starts[index + 1]], [root])
        ):
            return False
    last = max(count - 1, 0)
    return _reads(text[starts[last] if starts else 0 :], roots[last:])


def _moved(position: int, edits: list[Edit]) -> int:
    """Return where a place of the old text is in the new one."""
    return position + sum(len(edit.text) - (edit.end - edit.start) for edit in edits if edit.end <= position)


def _reads(text: str, roots: List[Node | None]) -> bool:
    """Tell whether `text` has these documents and no others."""
    report = Report("")
    documents = grow(text, report)
    wanted = [root for root in roots if root is not None and not is_null(root)]
    if report.failed or len(documents) != len(wanted):
        return False
    return all(
        document.root is not None and _equal(document.root, root)
        for document, root in zip(documents, wanted, strict=True)
    )


def _equal(left: Node, right: Node) -> bool:
    pending, seen = [(left, right)], set[tuple[int, int]]()
    while pending:
        one, other = (solid(node) for node in pending.pop())
        if (id(one), id(other)) in seen:
            continue
        seen.add((id(one), id(other)))
        if type(one) is not type(other) or one.tag != other.tag:
            return False
        if isinstance(one, Scalar) and isinstance(other, Scalar):
            if one.value != other.value and not is_null(one):
                return False
            continue
        below, others = _below(one), _below(other)
        if len(below) != len(others) or _merges(one) != _merges(other):
            return False
        pending += zip(below, others, strict=True)
    return True


def _merges(node: Node) -> list[bool]:
    return [is_merge(key) for key, _ in node.entries] if isinstance(node, Mapping) else []


def _below(node: Node) -> list[Node]:
    if isinstance(node, Mapping):
        return [part for pair in node.entries for part in pair]
    return node.items if isinstance(node, Sequence) else []


def _layout(documents: List[Document]) -> Layout:
    """Return how the text indents: the first mapping and the first list below a key that stand in block form."""
    step = dash = None
    for parent, child in _nested(documents):
        offset = child.column - parent.column
        if isinstance(child, Mapping) and step is None and offset > 0:
            step = offset
        if isinstance(child, Sequence) and dash is None and offset >= 0:
            dash = offset
        if step is not None and dash is not None:
            break
    return Layout(step or 2, (step or 2) if dash is None else dash)


def _nested(documents: List[Document]) -> Iterator[tuple[Mapping, Node]]:
    pending = [document.root for document in documents if document.root is not None]
    for node in pending:
        if isinstance(node, Mapping) and not node.flow:
            for _, value in node.entries:
                if isinstance(value, Mapping | Sequence) and not value.flow and value.anchor is None:
                    yield node, value
                pending.append(value)
        elif isinstance(node, Sequence):
            pending += node.items
