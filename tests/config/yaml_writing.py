"""Any values, written as YAML the way people do: in blocks and braces, quoted or not, with comments in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from luksctl.config.template import quote

WORDS = (
    "yes",
    "on",
    "0755",
    "1e3",
    "null",
    "~",
    "true",
    "12:30",
    "- x",
    "a: b",
    "#",
    "a #b",
    " lead",
    "tail ",
    "<<",
    "",
)
ODD = ("two\nlines", "ends\n", "\ttab", "'", '"', "{", "*a", "&b", "!t", "%", "@", "|", "é", "\u0085", "---", "[]", "=")
PLAIN = ("worker", "eth0", "10.0.0.2/24", "tcp://10.0.0.1:514/", "fe80::1", "two words", "a'b", "x#y", "v1.2-rc")
TEXTS = st.sampled_from((*WORDS, *ODD, *PLAIN))
SCALARS = st.one_of(TEXTS, st.integers(-2, 9), st.booleans(), st.sampled_from([0.5, 1e30]), st.none())
KEYS = st.sampled_from(("a", "b", "c d", "é", "true", "0", "- k", "k: v"))


def trees(leaves: st.SearchStrategy[Any] = SCALARS) -> st.SearchStrategy[Any]:
    """Return values of any shape."""
    return st.recursive(
        leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3), max_leaves=8
    )


@dataclass
class Writer:
    """Writes values in forms that `draw` chooses; `comments` are those it wrote."""

    draw: st.DrawFn
    flow: bool = True
    comments: list[str] = field(default_factory=list)
    made: int = 0

    def document(self, value: dict[str, Any]) -> str:
        """Return a document whose root is a mapping in block form, or in braces."""
        if not value or (self.flow and self.draw(st.integers(0, 9)) == 0):
            return self._line(value) + "\n"
        return "".join(f"{line}\n" for line in self._block(value, 0))

    def _line(self, value: Any) -> str:
        match value:
            case dict():
                pairs = (f"{self._line(key)}: {self._line(item)}" for key, item in value.items())
                return "{" + ", ".join(pairs) + "}"
            case list():
                return f"[{', '.join(map(self._line, value))}]"
            case str():
                return self._text(value)
            case bool():
                return "true" if value else "false"
            case None:
                return self.draw(st.sampled_from(["null", "~"]))
            case _:
                return repr(value)

    def _text(self, value: str) -> str:
        if value in PLAIN and self.draw(st.booleans()):
            return value
        if value.isprintable() and self.draw(st.booleans()):
            return "'" + value.replace("'", "''") + "'"
        return quote(value)

    def _block(self, value: Any, column: int) -> list[str]:
        pad = " " * column
        lines: list[str] = []
        if isinstance(value, dict):
            step = self.draw(st.sampled_from([2, 4]))
            for key, item in value.items():
                lines += self._comment(pad)
                shift = self.draw(st.sampled_from([0, 2, step])) if isinstance(item, list) else step
                lines += self._below(f"{pad}{self._line(key)}:", item, column + shift)
            return lines
        for item in value:
            lines += self._comment(pad)
            if item and isinstance(item, dict | list) and not self._in_braces() and self.draw(st.booleans()):
                first, *rest = self._block_without_head(item, column + 2)
                lines += [f"{pad}- {first.lstrip(' ')}", *rest]
            else:
                lines += self._below(f"{pad}-", item, column + 2)
        return lines

    def _block_without_head(self, value: Any, column: int) -> list[str]:
        lines = self._block(value, column)
        while lines[0].lstrip().startswith("#"):
            self.comments.remove(lines.pop(0).strip())
        return lines

    def _below(self, head: str, value: Any, column: int) -> list[str]:
        if isinstance(value, dict | list) and value and not self._in_braces():
            return [head + self._behind(), *self._block(value, column)]
        if isinstance(value, str) and value in {"two\nlines", "ends\n"} and self.draw(st.booleans()):
            header = "|" if value.endswith("\n") else "|-"
            body = [f"{' ' * (column + 1)}{line}" for line in value.rstrip("\n").split("\n")]
            return [f"{head} {header}", *body]
        if value is None and self.draw(st.booleans()):
            return [head + self._behind()]
        return [f"{head} {self._line(value)}{self._behind()}"]

    def _in_braces(self) -> bool:
        return self.flow and self.draw(st.integers(0, 3)) == 0

    def _comment(self, pad: str) -> list[str]:
        return [f"{pad}{self._new_comment()}"] if self.draw(st.integers(0, 4)) == 0 else []

    def _behind(self) -> str:
        return f" {self._new_comment()}" if self.draw(st.integers(0, 4)) == 0 else ""

    def _new_comment(self) -> str:
        self.comments.append(f"# comment {self.made};")
        self.made += 1  # one that was taken back leaves its number to nobody
        return self.comments[-1]
