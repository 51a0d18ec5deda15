"""A mapping of the text, read field by field with a problem for everything that is not as it should be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from luksctl.config.nodes import is_null, join, kind_of, pairs
from luksctl.config.report import Report
from luksctl.config.spelling import nearest
from luksctl.config.yamltext import TAG_FLAG, TAG_TEXT, TAG_WHOLE, line_of
from luksctl.hints import Final, TypeVar, final

T = TypeVar("T")
# Looks at one element of a list and returns what is wrong with it, and a hint.
Check = Callable[[T], tuple[str, str | None] | None]

# No leading zeros, and no more digits than any field of ours could use.
_WHOLE: Final = r"[-+]?(?:0|[1-9][0-9]{0,18})|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}"
_QUOTE_IT: Final = "write it in quotes to make it text"


def _hint_for_unknown(name: str, known: Sequence[str], elsewhere: dict[str, str]) -> str:
    near = nearest(name, (*known, *elsewhere))
    if near in elsewhere:
        return elsewhere[near]
    if near is not None:
        return f"did you mean {near}?"
    return f"known fields: {', '.join(known)}" if known else "it has no fields"


@final
class Block:
    """One mapping. Methods that return None have noted a problem, unless the field is absent or null."""

    def __init__(self, report: Report, node: MappingNode, path: str, line: int) -> None:
        self.report = report
        self.node = node
        self.path = path
        self.line = line
        self._fields: dict[str, tuple[Node, Node]] = {}
        self._odd_keys: list[Node] = []
        for key, value in pairs(node):
            if isinstance(key, ScalarNode) and key.tag == TAG_TEXT:
                self._fields.setdefault(key.value, (key, value))
            else:
                self._odd_keys.append(key)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all fields, null ones included."""
        return tuple(self._fields)

    def has(self, name: str) -> bool:
        """Tell whether the field is there, even if it is null."""
        return name in self._fields

    def given(self, name: str) -> bool:
        """Tell whether the field is there and not null."""
        return name in self._fields and not is_null(self._fields[name][1])

    def error(self, name: str | None, message: str, hint: str | None = None) -> None:
        """Note a problem at the value of field `name`, or at the block itself where there is no such field."""
        path = self.path if name is None else join(self.path, name)
        self.report.error(self.line_of(name), path, message, hint)

    def line_of(self, name: str | None) -> int:
        """Return the line of the field `name`; the line of the block where there is no such field."""
        field = None if name is None else self._fields.get(name)
        return self.line if field is None else line_of(field[0])

    def refuse_unknown(
        self, known: Sequence[str], *, elsewhere: dict[str, str] | None = None, quote: bool = True
    ) -> None:
        """Note every field that is not `known`; `elsewhere` has hints for fields that belong to another place.

        `quote` False keeps the name out of the message, for blocks in which a misplaced passphrase could be the name.
        """
        for name, (key, _) in self._fields.items():
            if name not in known:
                path = join(self.path, name) if quote else self.path
                hint = _hint_for_unknown(name, known, elsewhere or {})
                message = f"unknown field {name!r}" if quote else "unknown field"
                self.report.error(line_of(key), path, message, hint)
        for key in self._odd_keys:
            self.report.error(line_of(key), self.path, f"a field's name must be text, not {kind_of(key)}")

    def refuse_misspelled(self, known: str) -> None:
        """Note a field that is almost called `known`: carrying it along would leave a volume plain without a word."""
        for name, (key, _) in self._fields.items():
            if name != known and nearest(name, (known,)):
                hint = f"did you mean {known}?"
                self.report.error(line_of(key), join(self.path, name), f"unknown field {name!r}", hint)

    def is_list(self, name: str) -> bool:
        """Tell whether the field is there and a list."""
        return self.has(name) and isinstance(self._fields[name][1], SequenceNode)

    def scalar(self, name: str) -> str:
        """Return a field as it is written, whatever its type; empty text where it is absent, null or no scalar."""
        node = self._fields[name][1] if self.given(name) else None
        return str(node.value) if isinstance(node, ScalarNode) else ""

    def text(self, name: str) -> str | None:
        """Return a text field."""
        if not self.given(name):
            return None
        return self._text(self._fields[name][1], join(self.path, name), self.line_of(name))

    def whole(self, name: str) -> int | None:
        """Return a whole-number field."""
        if not self.given(name):
            return None
        return self._whole(self._fields[name][1], join(self.path, name), self.line_of(name))

    def flag(self, name: str) -> bool | None:
        """Return a true-or-false field."""
        if not self.given(name):
            return None
        node = self._fields[name][1]
        if isinstance(node, ScalarNode) and node.tag == TAG_FLAG and node.value.lower() in {"true", "false"}:
            return bool(node.value.lower() == "true")
        self.error(name, f"must be true or false, not {kind_of(node)}", "write true or false, without quotes")
        return None

    def block(self, name: str) -> Block | None:
        """Return a field that is a mapping itself."""
        if not self.given(name):
            return None
        key, node = self._fields[name]
        return self._block(node, join(self.path, name), line_of(key))

    def blocks(self, name: str) -> list[Block] | None:
        """Return a field that is a list of mappings; elements that are none are noted and left out."""
        found = [self._block(node, path, line_of(node)) for node, path in self._elements(name)]
        return [block for block in found if block is not None] if self.given(name) else None

    def texts(self, name: str, check: Check[str]) -> tuple[str, ...] | None:
        """Return a list of texts, each passed through `check`."""
        return self._checked(name, self._text, check)

    def wholes(self, name: str, check: Check[int]) -> tuple[int, ...] | None:
        """Return a list of whole numbers, each passed through `check`."""
        return self._checked(name, self._whole, check)

    def size_of(self, name: str) -> int:
        """Return the number of elements of a list field, 0 where it is absent or no list."""
        node = self._fields[name][1] if self.has(name) else None
        return len(node.value) if isinstance(node, SequenceNode) else 0

    def _elements(self, name: str) -> list[tuple[Node, str]]:
        if not self.given(name):
            return []
        node = self._fields[name][1]
        if not isinstance(node, SequenceNode):
            self.error(name, f"must be a list, not {kind_of(node)}", "put a dash before each element")
            return []
        path = join(self.path, name)
        return [(element, f"{path}[{index}]") for index, element in enumerate(node.value)]

    def _block(self, node: Node, path: str, line: int) -> Block | None:
        if isinstance(node, MappingNode):
            return Block(self.report, node, path, line)
        self.report.error(line, path, f"must be a mapping, not {kind_of(node)}")
        return None

    def _checked(self, name: str, read: Callable[[Node, str, int], T | None], check: Check[T]) -> tuple[T, ...] | None:
        values: list[T] = []
        for node, path in self._elements(name):
            value = read(node, path, line_of(node))
            if value is None:
                continue
            values.append(value)
            complaint = check(value)
            if complaint is not None:
                self.report.error(line_of(node), path, *complaint)
        return tuple(values) if self.given(name) else None

    def _text(self, node: Node, path: str, line: int) -> str | None:
        if isinstance(node, ScalarNode) and node.tag == TAG_TEXT:
            return str(node.value)
        hint = _QUOTE_IT if isinstance(node, ScalarNode) else None
        self.report.error(line, path, f"must be text, not {kind_of(node)}", hint)
        return None

    def _whole(self, node: Node, path: str, line: int) -> int | None:
        if not isinstance(node, ScalarNode) or node.tag != TAG_WHOLE:
            self.report.error(line, path, f"must be a whole number, not {kind_of(node)}")
            return None
        if re.fullmatch(_WHOLE, node.value):
            return int(node.value, 0)
        leading_zero = node.value.lstrip("+-").startswith("0")
        hint = "to some readers a leading zero makes it octal; write it without" if leading_zero else None
        self.report.error(line, path, "not a whole number that every reader takes the same way", hint)
        return None
