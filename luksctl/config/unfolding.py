"""A tree as plain values, which others change in place, and the tree that comes of them: what stayed is the same."""

from __future__ import annotations

from luksctl.config.emit import Layout, block
from luksctl.config.patch_load import Opaque, flattened, leaf
from luksctl.config.tree import Mapping, Node, Scalar, Sequence, solid
from luksctl.config.yamltext import TAG_FLAG, TAG_FLOAT, TAG_LIST, TAG_MAP, TAG_NULL, TAG_TEXT, TAG_WHOLE
from luksctl.hints import Any, final


def yaml_of(value: Any) -> str:
    """Return plain values as a YAML text in block form."""
    node = Unfolded().node(value, Origin("", 1))
    return "".join(f"{line.text}\n" for line in block(node, 0, Layout()))


@final
class Origin:
    """Where new values come from."""

    def __init__(self, source: str, line: int) -> None:
        self.mark = (0, 0, line, source)


@final
class Unfolded:
    """The plain values of a tree, which jsonpatch changes in place, and the nodes that they were made of."""

    def __init__(self) -> None:
        # Kept alive here, so that no other value gets the same id.
        self._made: list[Any] = []
        # For each the node of the text, and the same with what it merges written out.
        self._nodes: dict[int, tuple[Node, Mapping | Sequence]] = {}
        self.twins: list[Node] = []

    def plain(self, node: Node) -> Any:
        """Return `node` as plain values of its own: nothing is shared, as aliases would."""
        below = solid(node)
        if isinstance(below, Scalar):
            return leaf(below)
        value: Any
        if isinstance(below, Mapping):
            written_out = flattened(below) if any(_is_merge_like(key) for key, _ in below.entries) else below
            assert isinstance(written_out, Mapping)
            value = {_text(key): self.plain(item) for key, item in written_out.entries}
            self._nodes[id(value)] = (below, written_out)
            if len(value) < len(written_out.entries):
                self.twins.append(below)
        else:
            assert isinstance(below, Sequence)
            value = [self.plain(item) for item in below.items]
            self._nodes[id(value)] = (below, below)
        self._made.append(value)
        return value

    def node(self, value: Any, origin: Origin) -> Node:
        """Return the tree of what became of the values: nodes that stayed are the same."""
        there, before = self._nodes.get(id(value), (None, None))
        made: Node
        if isinstance(value, dict):
            made = self._mapping(value, before, origin)
        elif isinstance(value, list):
            made = self._sequence(value, before, origin)
        else:
            return _scalar(value, origin)
        return there if there is not None and made is before else made

    def _mapping(self, value: dict[str, Any], before: Node | None, origin: Origin) -> Node:
        old = {_text(key): (key, item) for key, item in before.entries} if isinstance(before, Mapping) else {}
        entries: list[tuple[Node, Node]] = []
        for name, item in value.items():
            if name in old:
                key, there = old[name]
                entries.append((key, self._in_place(there, item, origin)))
            else:
                entries.append((_scalar(name, origin), self.node(item, origin)))
        if not isinstance(before, Mapping):
            return Mapping(TAG_MAP, entries, origin.mark, flow=False).detached()
        # A removed and added key stands at the end now, which says the same.
        unchanged = len(entries) == len(before.entries) and all(
            one[0] is other[0] and one[1] is other[1] for one, other in zip(entries, before.entries, strict=True)
        )
        return before if unchanged else before.derive(entries)

    def _sequence(self, value: list[Any], before: Node | None, origin: Origin) -> Node:
        if not isinstance(before, Sequence):
            items = [self.node(item, origin) for item in value]
            return Sequence(TAG_LIST, items, origin.mark, flow=False).detached()
        items = self._aligned(value, before, origin)
        unchanged = len(items) == len(before.items) and all(
            one is other for one, other in zip(items, before.items, strict=True)
        )
        return before if unchanged else before.derive(items)

    def _aligned(self, value: list[Any], before: Sequence, origin: Origin) -> list[Node]:
        """Return the elements, each as the old one that it was: values of its own by identity, others as they equal."""
        items: list[Node] = []
        position = 0
        for item in value:
            index = next(
                (place for place in range(position, len(before.items)) if self._was(before.items[place], item)), None
            )
            if index is None:
                items.append(self.node(item, origin))
            else:
                items.append(self._in_place(before.items[index], item, origin))
                position = index + 1
        return items

    def _was(self, there: Node, value: Any) -> bool:
        below = solid(there)
        if isinstance(below, Scalar):
            return not isinstance(value, dict | list) and _alike(leaf(below), value)
        return self._nodes.get(id(value), (None, None))[0] is below

    def _in_place(self, there: Node, value: Any, origin: Origin) -> Node:
        """Return what `there` became, `there` itself where that is the same value."""
        below = solid(there)
        if isinstance(below, Scalar) and not isinstance(value, dict | list) and _alike(leaf(below), value):
            return there
        made = self.node(value, origin)
        return there if made is below else made


def _is_merge_like(key: Node) -> bool:
    return isinstance(key, Scalar) and key.value == "<<"


def _alike(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def _text(key: Node) -> str:
    below = solid(key)
    return below.value if isinstance(below, Scalar) else ""


def _scalar(value: Any, origin: Origin) -> Scalar:
    match value:
        case Opaque():
            return value.scalar
        case None:
            tag, text = TAG_NULL, "null"
        case bool():
            tag, text = TAG_FLAG, "true" if value else "false"
        case int():
            tag, text = TAG_WHOLE, str(value)
        case float():
            tag, text = TAG_FLOAT, repr(value)
        case _:
            tag, text = TAG_TEXT, str(value)
    # A plain << would be a merge key, and a text never is.
    style = "|" if "\n" in text else '"' if text == "<<" else ""
    return Scalar(tag, text, style, origin.mark)
