"""The boot hook starts fast because it loads little: only what a config with static and nodeID keys needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.images import converged_node, node_directory
from tests.house.tree import ROOT

# Packages from elsewhere that the hook may load; where a config is read, the YAML parser with its compiled parts, too.
FROM_ELSEWHERE = {"converged": {"_cffi_backend"}, "config": {"_cffi_backend", "yaml", "_yaml", "cython_runtime"}}
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
    "typing",
    "unittest",
    "urllib",
    "weakref",
    "xml",
}
# Rooms and parts of rooms that a boot never enters before it has the key.
NOT_AT_BOOT = {
    "luksctl.cli",
    "luksctl.config.template",
    "luksctl.cryptsetup.formatting",
    "luksctl.cryptsetup.mappings",
    "luksctl.devices.layout",
    "luksctl.devices.partition",
    "luksctl.devices.programs",
    "luksctl.meta.go_json",
    "luksctl.meta.lock",
    "luksctl.model.simulate",
}
# How many modules each case loads. They are nearly all of the start's cost, so it grows only when somebody decides so.
STANDARD_LIBRARY_MODULES = {"converged": 42, "config": 48}  # some more or less by version of Python and PyYAML
OWN_MODULES = {"converged": 82, "config": 96}

_SCRIPT = """
import sys
from tests.bench.hook_start import Reached, run
try:
    run(sys.argv[1], sys.argv[2])
except Reached:
    print("reached")
print("\\n".join(sys.modules))
"""


@pytest.fixture(scope="module", params=["converged", "config"])
def case(request: pytest.FixtureRequest) -> str:
    """Name how STATE is to be opened: by META alone, or by a config that is read first."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def loaded(case: str, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Run the hook up to its first libcryptsetup call in a fresh interpreter; return the modules it had loaded."""
    make = converged_node if case == "converged" else node_directory
    directory = make(tmp_path_factory.mktemp("hook") / "node")
    # -I keeps the developer's environment and site directories out, so that both see the same interpreter.
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{_SCRIPT}"
    command = [sys.executable, "-I", "-c", script, case, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, *modules = done.stdout.splitlines()
    assert found == "reached"
    return set(modules)


def _within(modules: set[str], names: set[str]) -> set[str]:
    return {module for module in modules if any(module == name or module.startswith(f"{name}.") for name in names)}


def _empty_interpreter() -> set[str]:
    command = [sys.executable, "-I", "-c", "import sys; print('\\n'.join(sys.modules))"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def test_the_hook_came_as_far_as_the_library(case: str, loaded: set[str]) -> None:
    """The runs that the other tests look at loaded the compiled module, and a parser only where there was a config."""
    assert {"luksctl.boot.hook", "luksctl.reconcile.apply", "luksctl.cryptsetup._libcryptsetup"} <= loaded
    assert ("luksctl.config.documents" in loaded) == (case == "config")


def test_packages_from_elsewhere_are_few(case: str, loaded: set[str]) -> None:
    """Nothing but cffi's runtime, and the YAML parser for a config, comes from outside Python and luksctl."""
    tops = {module.partition(".")[0] for module in loaded - _empty_interpreter()}
    foreign = {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_cython_")}
    assert foreign - {"luksctl", "tests", "__main__"} <= FROM_ELSEWHERE[case]


def test_nothing_heavy_is_loaded(loaded: set[str]) -> None:
    """Programs are started, logs formatted and sockets opened only by those who need it."""
    assert _within(loaded - _empty_interpreter(), TOO_HEAVY) == set()


def test_rooms_that_a_boot_never_enters_are_not_loaded(loaded: set[str]) -> None:
    """The command line, the template and the partitioning of disks stay out."""
    assert _within(loaded, NOT_AT_BOOT) == set()


def test_the_number_of_modules_is_bounded(case: str, loaded: set[str]) -> None:
    """Every module costs a tenth of a millisecond before its first line runs."""
    tops = [module.partition(".")[0] for module in loaded - _empty_interpreter()]
    assert sum(top in sys.stdlib_module_names for top in tops) <= STANDARD_LIBRARY_MODULES[case]
    assert tops.count("luksctl") <= OWN_MODULES[case]


def test_the_search_finds_what_it_looks_for() -> None:
    """A name matches itself and what lies below it, not what merely begins alike."""
    assert _within({"ssl", "email.message", "sslx"}, {"ssl", "email"}) == {"ssl", "email.message"}
