"""How the source is laid out: sizes, names, and who may touch what. The limits stand in CONTRIBUTING.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.tree import ROOT, functions, imported, modules, parsed

MODULE_LINES = 400
FUNCTION_LINES = 60
NESTING = 4
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "shared"}
COMPILED = "luksctl.cryptsetup._libcryptsetup"
# It loads tpm2-pytss by name, which no import contract sees.
TPM_LIBRARY = Path("luksctl/providers/tpm_library.py")
# The only files that may end the process or catch whatever comes: they turn it into an exit code and a message.
OUTERMOST = {
    Path("luksctl/cli/main.py"),
    Path("luksctl/boot/hook.py"),
    Path("luksctl/boot/program.py"),
    Path("luksctl/kms/process.py"),
}
# cffi calls these from C, or a thread runs them: an exception is kept, and raised again where somebody waits for it.
# gRPC would send what an exception says to whoever called.
CALLBACKS = {
    Path("luksctl/cryptsetup/callbacks.py"),
    Path("luksctl/kms/grpc_server.py"),
    Path("luksctl/providers/deadline.py"),
}
BROAD = {"Exception", "BaseException"}

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)


def _depth(node: ast.AST) -> int:
    """Return how deep blocks nest below `node`; an elif is no deeper than its if, a nested function counts anew."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_elif = (
            isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse and len(node.orelse) == 1
        )
        deepest = max(deepest, _depth(child) + (isinstance(child, _BLOCKS) and not is_elif))
    return deepest


def _calls_exit(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="sys"), attr="exit")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="_exit" | "abort")):
            return True
        case ast.Call(func=ast.Name(id="exit" | "quit" | "SystemExit")):
            return True
        case _:
            return False


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _catches_broadly(node: ast.AST) -> bool:
    """Tell whether `node` catches whatever comes and keeps it; cleaning up and raising it again is no catching."""
    if not isinstance(node, ast.ExceptHandler) or _raises_again(node):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in caught)


def test_the_tree_was_found() -> None:
    """The list the other tests run over holds what everybody knows is there."""
    assert {Path("luksctl/errors.py"), Path("luksctl/model/step.py"), Path("native/declarations.py")} <= set(modules())


@pytest.mark.parametrize("module", modules(), ids=str)
def test_modules_are_short(module: Path) -> None:
    """No module is longer than the limit."""
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("module", modules(), ids=str)
def test_functions_are_short_and_flat(module: Path) -> None:
    """No function is longer or nests deeper than the limits."""
    for function in functions(module):
        place = f"{module}:{function.lineno} {function.name}"
        assert (function.end_lineno or 0) - function.lineno + 1 <= FUNCTION_LINES, place
        assert _depth(function) <= NESTING, place


@pytest.mark.parametrize("module", modules(), ids=str)
def test_names_say_what_is_inside(module: Path) -> None:
    """No module or folder is called by a word that fits everything."""
    assert VAGUE_NAMES.isdisjoint({*module.parent.parts, module.stem})


@pytest.mark.parametrize("module", [path for path in modules() if path.name == "__init__.py"], ids=str)
def test_packages_have_no_code(module: Path) -> None:
    """`__init__.py` holds a docstring at most, so that no import pulls more than it names."""
    body = parsed(module).body
    assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def test_every_package_of_luksctl_says_it_is_one() -> None:
    """A folder with modules and no `__init__.py` would be missing from the wheel."""
    folders = {path.parent for path in modules("luksctl")}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("module", modules("luksctl"), ids=str)
def test_only_cryptsetup_imports_the_compiled_module(module: Path) -> None:
    """Everybody else goes through the Python face."""
    if module.parts[1] != "cryptsetup":
        assert [line for name, line in imported(module) if name.startswith(COMPILED)] == []


def test_one_module_loads_the_tpms_library() -> None:
    """Neither imported nor by name anywhere else."""
    naming = [path for path in modules("luksctl") if "tpm2_pytss" in (ROOT / path).read_text(encoding="utf-8")]
    assert naming == [TPM_LIBRARY]


@pytest.mark.parametrize("module", modules("luksctl"), ids=str)
def test_only_the_outermost_files_exit_or_catch_everything(module: Path) -> None:
    """Library code raises; who may end the process is named above."""
    nodes = list(ast.walk(parsed(module)))
    if module not in OUTERMOST:
        assert [node.lineno for node in nodes if isinstance(node, ast.Call) and _calls_exit(node)] == []
    if module not in OUTERMOST | CALLBACKS:
        assert [node.lineno for node in nodes if isinstance(node, ast.ExceptHandler) and _catches_broadly(node)] == []


@pytest.mark.parametrize("module", [path for path in modules() if path.stem.startswith("test_")], ids=str)
def test_every_test_says_what_it_shows(module: Path) -> None:
    """Each test function has a docstring that begins with one sentence."""
    for function in functions(module):
        if function.name.startswith("test_"):
            text = ast.get_docstring(function) or ""
            assert text.split("\n\n")[0].rstrip().endswith((".", "?")), f"{module}:{function.lineno} {function.name}"
