"""Read decl/*.h: which functions there are, what they take and return, and which version brought them.

The files keep to a form that needs no C parser: one declaration ends with `);`, every parameter is named, structs and
enums are written in full, and a comment `since X.Y` says which version of the library brought what follows.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
CRYPTSETUP, BLKID = 0, 1
# In the order in which the types need each other.
AREAS = (
    ("init", CRYPTSETUP),
    ("log", CRYPTSETUP),
    ("pbkdf", CRYPTSETUP),
    ("format", CRYPTSETUP),
    ("keyslot", CRYPTSETUP),
    ("context", CRYPTSETUP),
    ("activate", CRYPTSETUP),
    ("volume_key", CRYPTSETUP),
    ("info", CRYPTSETUP),
    ("flags", CRYPTSETUP),
    ("token", CRYPTSETUP),
    ("header", CRYPTSETUP),
    ("wipe", CRYPTSETUP),
    ("reencrypt", CRYPTSETUP),
    ("memory", CRYPTSETUP),
    ("blkid", BLKID),
)
_SINCE = re.compile(r"/\* since ([\d.]+) \*/")
_FUNCTION = re.compile(
    r"^(?P<result>[\w ]+?[ *]+)(?P<name>(?:crypt|blkid)_\w+)\((?P<parameters>.*?)\);\n", re.MULTILINE | re.DOTALL
)
_CALLBACK = re.compile(r"\(\*(\w+)\)\(")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, and its whole text with the name in place (as C wants it)."""

    name: str
    text: str

    @property
    def type(self) -> str:
        """Return the type without the name; `callback` for a function pointer."""
        return "callback" if _CALLBACK.search(self.text) else self.text.removesuffix(self.name).strip()


@dataclass(frozen=True, slots=True)
class Function:
    """One declared function."""

    name: str
    result: str
    parameters: tuple[Parameter, ...]
    since: str
    library: int


def read_area(area: str) -> str:
    """Return the text of decl/`area`.h."""
    with open(os.path.join(HERE, "decl", f"{area}.h"), encoding="ascii") as source:
        return source.read()


def all_text() -> str:
    """Return every area's declarations, in order."""
    return "\n".join(read_area(area) for area, _ in AREAS)


def types_only(text: str) -> str:
    """Return `text` without its functions: what the compiled file needs before the table."""
    return _FUNCTION.sub("", text)


def functions() -> tuple[Function, ...]:
    """Return every declared function, in order."""
    return tuple(function for area, library in AREAS for function in _functions_of(read_area(area), library))


def _functions_of(text: str, library: int) -> list[Function]:
    marks = [(match.start(), match[1]) for match in _SINCE.finditer(text)]
    found = []
    for match in _FUNCTION.finditer(text):
        since = [version for start, version in marks if start < match.start()]
        if not since:
            raise ValueError(f"no `since` comment above {match['name']}")
        found.append(
            Function(match["name"], match["result"].strip(), _parameters(match["parameters"]), since[-1], library)
        )
    return found


def _parameters(text: str) -> tuple[Parameter, ...]:
    flat = " ".join(text.split())
    if flat == "void":
        return ()
    parts, depth, start = [], 0, 0
    for index, character in enumerate(flat):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(flat[start:index].strip())
            start = index + 1
    parts.append(flat[start:].strip())
    return tuple(Parameter(_name(part), part) for part in parts)


def _name(parameter: str) -> str:
    callback = _CALLBACK.search(parameter)
    if callback:
        return callback[1]
    name = re.search(r"(\w+)$", parameter)
    if name is None:
        raise ValueError(f"a parameter without a name: {parameter}")
    return name[1]
