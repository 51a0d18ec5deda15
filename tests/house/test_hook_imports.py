"""The boot hook starts fast because it loads little: only what a config with static and nodeID keys needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.images import node_directory
from tests.house.tree import ROOT

# Packages from elsewhere that the hook may load; all but the first are how compiled parts show in sys.modules.
FROM_ELSEWHERE = {"yaml", "_yaml", "_cffi_backend", "cython_runtime"}
# Costly parts of the standard library, and those that mean something heavy came along.
TOO_HEAVY = {
    "argparse",
    "asyncio",
    "concurrent",
    "ctypes",
    "email",
    "http",
    "importlib.metadata",
    "logging",
    "multiprocessing",
    "pickle",
    "pkg_resources",
    "pydoc",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
    "urllib",
    "xml",
}
# Rooms and parts of rooms that a boot never enters.
NOT_AT_BOOT = {"luksctl.cli", "luksctl.config.template", "luksctl.devices.layout", "luksctl.devices.partition"}
STANDARD_LIBRARY_MODULES = 80

_SCRIPT = """
import sys
from tests.bench.hook_start import run
plan = run(sys.argv[1])
print(type(plan.refusal).__name__, " ".join(type(step).__name__ for step in plan.steps))
print("\\n".join(sys.modules))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Run the hook up to its first libcryptsetup call in a fresh interpreter; return the modules it had loaded."""
    directory = node_directory(tmp_path_factory.mktemp("hook") / "node")
    # -I keeps the developer's environment and site directories out, so that both see the same interpreter.
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{_SCRIPT}", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, *modules = done.stdout.splitlines()
    # META of the images does not know the volume, yet both header copies agree: the plan is to open it.
    assert found == "NoneType OpenVolume"
    return set(modules)


def _within(modules: set[str], names: set[str]) -> set[str]:
    return {module for module in modules if any(module == name or module.startswith(f"{name}.") for name in names)}


def _empty_interpreter() -> set[str]:
    command = [sys.executable, "-I", "-c", "import sys; print('\\n'.join(sys.modules))"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def test_the_hook_came_as_far_as_the_library(loaded: set[str]) -> None:
    """The run the other tests look at read a config and loaded the compiled module."""
    assert {"luksctl.boot.hook", "luksctl.config.documents", "luksctl.cryptsetup._libcryptsetup"} <= loaded


def test_packages_from_elsewhere_are_few(loaded: set[str]) -> None:
    """Nothing but the YAML parser and cffi's runtime comes from outside Python and luksctl."""
    tops = {module.partition(".")[0] for module in loaded - _empty_interpreter()}
    foreign = {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_cython_")}
    assert foreign - {"luksctl", "tests", "__main__"} <= FROM_ELSEWHERE


def test_nothing_heavy_is_loaded(loaded: set[str]) -> None:
    """Programs are started, logs formatted and sockets opened only by those who need it."""
    assert _within(loaded - _empty_interpreter(), TOO_HEAVY) == set()


def test_rooms_that_a_boot_never_enters_are_not_loaded(loaded: set[str]) -> None:
    """The command line, the template and the partitioning of disks stay out."""
    assert _within(loaded, NOT_AT_BOOT) == set()


def test_the_standard_library_is_bounded(loaded: set[str]) -> None:
    """The number of modules, nearly all of the start's cost, grows only when somebody decides so here."""
    standard = {
        module for module in loaded - _empty_interpreter() if module.partition(".")[0] in sys.stdlib_module_names
    }
    assert len(standard) <= STANDARD_LIBRARY_MODULES


def test_the_search_finds_what_it_looks_for() -> None:
    """A name matches itself and what lies below it, not what merely begins alike."""
    assert _within({"ssl", "email.message", "sslx"}, {"ssl", "email"}) == {"ssl", "email.message"}
