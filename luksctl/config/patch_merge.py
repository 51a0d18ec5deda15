"""Strategic merge patches: what a document becomes when an incomplete one is merged into it, as Talos does it.

A mapping is merged key by key, a list gets the elements of the patch appended, any other value is replaced; the
exceptions are in luksctl.config.patch_rules. What stays is not copied: the new tree shares it with the old one.
"""

from __future__ import annotations

from luksctl.config.nodes import join
from luksctl.config.patch_rules import Merge, Rule, is_key_list, rule_of
from luksctl.config.report import Report
from luksctl.config.split import DIRECTIVE
from luksctl.config.tree import Mapping, Node, Scalar, Sequence, effective, is_merge, is_null, solid
from luksctl.config.yamltext import TAG_FLAG, TAG_FLOAT, TAG_NULL, TAG_TEXT, TAG_WHOLE
from luksctl.hints import Final, final
from luksctl.model.config import KeyKind

_KINDS_OF_KEY: Final = frozenset(kind.value for kind in KeyKind)
_WORDS: Final = {
    TAG_TEXT: "text",
    TAG_FLAG: "true or false",
    TAG_WHOLE: "a number",
    TAG_FLOAT: "a number",
    TAG_NULL: "nothing",
}


def same(left: Node, right: Node) -> bool:
    """Tell whether two nodes are the same value, however they are written."""
    left, right = solid(left), solid(right)
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return (left.tag, left.value) == (right.tag, right.value)
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        pairs = zip(left.items, right.items, strict=False)
        return len(left.items) == len(right.items) and all(same(one, other) for one, other in pairs)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        ours, others = list(effective(left)), list(effective(right))
        return len(ours) == len(others) and all(
            any(same(key, other_key) and same(value, other) for other_key, other in others) for key, value in ours
        )
    return False


def is_delete(node: Node) -> bool:
    """Tell whether `node` asks for its own place to be deleted."""
    found = node.find(DIRECTIVE) if isinstance(node, Mapping) else None
    return isinstance(found, Scalar) and found.value == "delete"


@final
class Merger:
    """Merges patches into one document; problems go to the report of the patch, notes beside them."""

    def __init__(self, kind: str, name: str, report: Report, *, keys_by_slot: bool) -> None:
        self._kind = kind
        self._name = name
        self._report = report
        self._keys_by_slot = keys_by_slot

    # ---- merge -----------------------------------------------------------------------------------------------------

    def merge(self, base: Node, patch: Node, path: tuple[str, ...] = ()) -> Node:
        """Return what `base` becomes; `base` itself where nothing changes."""
        here, rule = solid(base), self._rule(path)
        if is_null(patch):
            if path:
                self._note(patch, path, "null keeps what is there; to delete it, write {$patch: delete}")
            return base
        if (isinstance(here, Scalar) or rule.rule is Rule.REPLACE) and same(here, patch):
            return base
        if is_null(here) or rule.rule is Rule.REPLACE:
            return patch
        return self._alike(base, patch, path, rule)

    def _alike(self, base: Node, patch: Node, path: tuple[str, ...], rule: Merge) -> Node:
        """Merge what is of one kind; anything else is a problem."""
        here = solid(base)
        if isinstance(here, Mapping) and isinstance(patch, Mapping):
            return self._mappings(here, patch, path, base, whole=rule.rule is Rule.ARGUMENTS)
        if isinstance(here, Sequence) and isinstance(patch, Sequence):
            return self._lists(here, patch, path, base, rule)
        if isinstance(here, Scalar) and isinstance(patch, Scalar):
            return self._scalars(base, patch, path)
        message = f"{_word(patch)} cannot be merged into {_word(here)}"
        self._problem(patch, path, message, f"delete it first: {{{DIRECTIVE}: delete}}")
        return base

    def _rule(self, path: tuple[str, ...]) -> Merge:
        return rule_of(self._kind, path, keys_by_slot=self._keys_by_slot)

    def _mappings(self, here: Mapping, patch: Mapping, path: tuple[str, ...], base: Node, *, whole: bool) -> Node:
        entries = list(here.entries)
        changed = False
        own = {_identity(key): index for index, (key, _) in enumerate(entries)}
        merged = {_identity(key): value for key, value in effective(here)}
        for key, value in patch.entries:
            identity = _identity(key)
            if identity not in merged:
                entries.append((key, value))
                changed = True
                continue
            before = merged[identity]
            if whole:
                after = before if same(before, value) or is_null(value) else value
            else:
                after = self.merge(before, value, (*path, _name_of(key)))
            if after is before:
                continue
            changed = True
            if identity in own:
                entries[own[identity]] = (entries[own[identity]][0], after)
            else:
                entries.append((key, after))
        return here.derive(entries) if changed else base

    def _lists(self, here: Sequence, patch: Sequence, path: tuple[str, ...], base: Node, rule: Merge) -> Node:
        items = list(here.items)
        for element in patch.items:
            index = self._matching(items, element, rule)
            if index is None:
                items.append(element)
            elif rule.whole:
                items[index] = items[index] if same(items[index], element) else element
            else:
                items[index] = self._element(items[index], element, path)
        unchanged = len(items) == len(here.items) and all(
            one is other for one, other in zip(items, here.items, strict=True)
        )
        return base if unchanged else here.derive(items)

    def _element(self, item: Node, patch: Node, path: tuple[str, ...]) -> Node:
        below = solid(item)
        if is_key_list(self._kind, path) and isinstance(below, Mapping) and isinstance(patch, Mapping):
            named = {_name_of(key) for key, _ in patch.entries} & _KINDS_OF_KEY
            others = _KINDS_OF_KEY - named if named else set()
            if any(_name_of(key) in others for key, _ in effective(below)):
                item = below.derive([pair for pair in effective(below) if _name_of(pair[0]) not in others])
        return self.merge(item, patch, path)

    def _matching(self, items: list[Node], element: Node, rule: Merge) -> int | None:
        """Return the place of the element that the patch's element is merged into; None where it is appended."""
        if rule.rule is not Rule.MATCH or not isinstance(element, Mapping):
            return None
        for selector in rule.selectors:
            wanted = element.find(selector)
            if wanted is None or is_null(wanted):
                continue
            return _place_of(items, selector, wanted)
        return None

    def _scalars(self, base: Node, patch: Scalar, path: tuple[str, ...]) -> Node:
        if (patch.tag == TAG_TEXT and not patch.value) or (patch.tag == TAG_WHOLE and not patch.value.strip("+-0")):
            self._note(patch, path, f"{_word(patch)} that is empty or zero keeps what is there, as in Talos")
            return base
        return patch

    # ---- delete ----------------------------------------------------------------------------------------------------

    def delete(self, base: Node, patch: Node, path: tuple[str, ...] = ()) -> tuple[Node, Node | None]:
        """Return `base` without what `patch` asks to delete, and what else the patch has; None where that is nothing.

        A list that a deletion leaves empty goes as well, unless the patch fills it again.
        """
        if not _asks(patch):
            return base, patch
        here = solid(base)
        if isinstance(patch, Mapping):
            if not isinstance(here, Mapping):
                self._problem(patch, path, "there is no mapping to delete from")
                return base, None
            return self._delete_in_mapping(here, patch, path)
        assert isinstance(patch, Sequence)
        if not isinstance(here, Sequence):
            self._problem(patch, path, "there is no list to delete from")
            return base, None
        return self._delete_in_list(here, patch, path)

    def _delete_in_mapping(self, here: Mapping, patch: Mapping, path: tuple[str, ...]) -> tuple[Node, Node | None]:
        entries, left = list(here.entries), []
        for key, value in patch.entries:
            if not _asks(value):
                left.append((key, value))
                continue
            below = (*path, _name_of(key))
            found = next((pair for pair in effective(here) if _identity(pair[0]) == _identity(key)), None)
            if found is None:
                self._problem(value, below, "there is nothing to delete")
                continue
            if found not in entries:
                # It comes from what is merged: the pairs of that become the mapping's own.
                entries = [*(pair for pair in entries if not is_merge(pair[0])), *_only_merged(here, entries)]
            place = next(index for index, pair in enumerate(entries) if _identity(pair[0]) == _identity(key))
            if is_delete(value):
                del entries[place]
                continue
            after, rest = self.delete(found[1], value, below)
            if rest is not None:
                left.append((key, rest))
            if isinstance(after, Sequence) and not after.items and (not isinstance(rest, Sequence) or not rest.items):
                del entries[place]
            else:
                entries[place] = (entries[place][0], after)
        return here.derive(entries), patch.derive(left) if left else None

    def _delete_in_list(self, here: Sequence, patch: Sequence, path: tuple[str, ...]) -> tuple[Node, Node | None]:
        items, left = list(here.items), []
        for element in patch.items:
            if not _asks(element):
                left.append(element)
                continue
            place = self._selected(items, element) if is_delete(element) else None
            if is_delete(element) and place is not None:
                del items[place]
                continue
            if not is_delete(element):
                place = self._matching(items, element, self._rule(path))
            if place is None:
                self._problem(element, path, "no element of the list matches, so there is nothing to delete")
                continue
            items[place], rest = self.delete(items[place], element, path)
            if rest is not None:
                left.append(rest)
        return here.derive(items), patch.derive(left) if left else None

    def _selected(self, items: list[Node], element: Node) -> int | None:
        """Return the place of the first element whose field is that of the directive's first other field."""
        if not isinstance(element, Mapping):
            return None
        for key, value in element.entries:
            if _name_of(key) != DIRECTIVE:
                return _place_of(items, _name_of(key), value)
        return None

    # ---- findings --------------------------------------------------------------------------------------------------

    def _path(self, path: tuple[str, ...]) -> str:
        return join(self._name, ".".join(path)) if path else self._name

    def _problem(self, node: Node, path: tuple[str, ...], message: str, hint: str | None = None) -> None:
        self._report.error(node.line, self._path(path), message, hint)

    def _note(self, node: Node, path: tuple[str, ...], text: str) -> None:
        self._report.warn(f"{node.source}:{node.line}: {self._path(path)}: {text}")


def _asks(patch: Node) -> bool:
    """Tell whether anything in `patch` is to be deleted."""
    pending = [patch]
    for node in pending:
        if is_delete(node):
            return True
        if isinstance(node, Mapping):
            pending += [value for _, value in node.entries]
        elif isinstance(node, Sequence):
            pending += node.items
    return False


def without_deletions(patch: Node) -> Node | None:
    """Return `patch` without what it asks to delete; None where nothing else is left."""
    if is_delete(patch) or not _asks(patch):
        return None if is_delete(patch) else patch
    if isinstance(patch, Mapping):
        pairs = ((key, without_deletions(value)) for key, value in patch.entries)
        entries = [(key, value) for key, value in pairs if value is not None]
        return patch.derive(entries) if entries else None
    assert isinstance(patch, Sequence)
    items = [item for item in map(without_deletions, patch.items) if item is not None]
    return patch.derive(items) if items else None


def _only_merged(here: Mapping, own: list[tuple[Node, Node]]) -> list[tuple[Node, Node]]:
    names = {_identity(key) for key, _ in own}
    return [pair for pair in effective(here) if _identity(pair[0]) not in names]


def _place_of(items: list[Node], selector: str, wanted: Node) -> int | None:
    for index, item in enumerate(items):
        below = solid(item)
        found = below.find(selector) if isinstance(below, Mapping) else None
        if found is not None and _equal(found, wanted):
            return index
    return None


def _equal(left: Node, right: Node) -> bool:
    """Tell whether two selectors are equal: numbers by their value, anything else as it is."""
    one, other = solid(left), solid(right)
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return one.value == other.value or (_number(one) is not None and _number(one) == _number(other))
    return same(one, other)


def _number(scalar: Scalar) -> int | None:
    text = scalar.value
    if scalar.tag != TAG_WHOLE or len(text) > 20:
        return None
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


def _identity(key: Node) -> tuple[object, ...]:
    key = solid(key)
    return (key.tag, key.value) if isinstance(key, Scalar) else (id(key),)


def _name_of(key: Node) -> str:
    key = solid(key)
    return key.value if isinstance(key, Scalar) else ""


def _word(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return _WORDS.get(node.tag, "a value with a tag")
