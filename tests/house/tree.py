"""The project's own files, as the tests on them see them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("luksctl", "native", "vm-tests", "tests")


@cache
def modules(*folders: str) -> tuple[Path, ...]:
    """Return every Python file below `folders` (all of SOURCE without any), relative to the root, in order."""
    found = (path for folder in folders or SOURCE for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT) for path in found if ".cache" not in path.parts))


@cache
def parsed(module: Path) -> ast.Module:
    """Return the syntax tree of `module`."""
    return ast.parse((ROOT / module).read_bytes(), str(module))


def functions(module: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield each function of `module`, nested ones and methods too."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(module: Path) -> Iterator[tuple[str, int]]:
    """Yield every module name that `module` imports, wherever in the file, with its line."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
