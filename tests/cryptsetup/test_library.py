"""The table of functions: what is declared is there, or known to be newer; what lacks says which version brings it."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.library import Library, LibraryFunction, functions, has, missing, problem, require, version
from luksctl.errors import MissingFunction

_ROOT = Path(__file__).parents[2]
_STUB = _ROOT / "luksctl" / "cryptsetup" / "_libcryptsetup.pyi"

# What one process sees of a libcryptsetup that has crypt_init and crypt_free only, or of none at all.
_WITH_OTHER_LIBRARY = """
import sys
from luksctl.cryptsetup.library import Library, has, open_library
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.failure import Operation, check
from luksctl.cryptsetup._libcryptsetup import lib
from luksctl.errors import DeviceError, MissingFunction

try:
    open_library(Library.CRYPTSETUP, sys.argv[1])
except DeviceError as error:
    print("not opened:", error, "|", error.hint)
    sys.exit()
print(has("crypt_keyslot_max"), has("crypt_reencrypt_run"), lib.crypt_reencrypt_run.__name__)
try:
    with Device.blank("/dev/null") as device:
        device.reencryption.run()
except MissingFunction as error:
    print("missing:", error, "|", error.hint)
try:
    Device.open("/dev/null")
except MissingFunction as error:
    print("missing:", error)
"""

_STUB_LIBRARY = """
int crypt_init_data_device(void **cd, const char *device, const char *data) { static int it; *cd = &it; return 0; }
void crypt_free(void *cd) { }
int crypt_keyslot_max(const char *type) { return 32; }
"""

_IMPORT_ONLY = """
import luksctl.cryptsetup.device, luksctl.cryptsetup.keyslots, luksctl.cryptsetup.blkid
def opened():
    return [name for name in ("libcryptsetup", "libblkid") if name + ".so" in open("/proc/self/maps").read()]
print(opened())
luksctl.cryptsetup.keyslots.Keyslots.count_limit()
print(opened())
"""


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_every_declared_function_resolves_or_is_newer() -> None:
    """No declared name is misspelt: those of versions up to the installed one are all there."""
    for library in Library:
        declared = [function for function in functions().values() if function.library is library]
        newest = max(_version(function.since) for function in declared if function.present)
        absent = [f.name for f in declared if not f.present and _version(f.since) <= newest]
        assert absent == []
        assert len(declared) > 20


def test_baseline_is_present() -> None:
    """Whatever library runs these tests has all of 2.4, which the binding stands on."""
    absent = [
        f.name
        for f in functions().values()
        if f.library is Library.CRYPTSETUP and _version(f.since) <= (2, 4) and not f.present
    ]
    assert absent == []


def test_version_is_that_of_the_newest_function_present() -> None:
    """The version is told from the functions, since the library does not tell it."""
    assert _version(version(Library.CRYPTSETUP)) >= (2, 4)
    assert _version(version(Library.BLKID)) >= (2, 17)


def test_missing_function_names_the_version_that_brings_it() -> None:
    """The error says which function, which version, and what to install."""
    with pytest.raises(MissingFunction) as caught:
        raise missing(functions()["crypt_format_inline"])
    assert "crypt_format_inline" in str(caught.value)
    assert "2.8" in str(caught.value)
    assert caught.value.hint == "install libcryptsetup12 2.8 or newer"
    require("crypt_load")
    assert has("crypt_load")


def test_unknown_function_is_a_key_error() -> None:
    """Asking for a function that nobody declared is a bug, not an old library."""
    with pytest.raises(KeyError):
        has("crypt_no_such_function")


def test_old_library_is_told_from_a_failing_one(tmp_path: Path) -> None:
    """With a library that lacks a function, calling it raises MissingFunction with the version."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, target = tmp_path / "old.c", tmp_path / "libold.so"
    source.write_text(_STUB_LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    lines = _run(_WITH_OTHER_LIBRARY, str(target)).splitlines()
    assert lines[0] == "True False crypt_reencrypt_run"
    assert lines[1].startswith(
        "missing: this libcryptsetup has no crypt_reencrypt_run, which comes with libcryptsetup 2.4"
    )


def test_absent_library_says_what_to_install() -> None:
    """A file that is not there is an error with the loader's reason and the package's name."""
    output = _run(_WITH_OTHER_LIBRARY, "libnosuchcryptsetup.so.99")
    assert output.startswith("not opened: libcryptsetup cannot be opened (libnosuchcryptsetup.so.99")
    assert "install libcryptsetup12" in output


_PROBLEM = """
import sys
from luksctl.cryptsetup.library import Library, open_library, problem
open_library(Library.CRYPTSETUP, sys.argv[1])
found = problem()
print(found.cause, "|", found.hint)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_STUB_LIBRARY, "older than 2.4 | install libcryptsetup12 2.4 or newer"),
        ("int nothing;", "| install libcryptsetup12 (2.4 or newer)"),
    ],
)
def test_a_library_that_does_not_do_is_a_problem_and_this_one_is_none(tmp_path: Path, text: str, said: str) -> None:
    """One with next to nothing is older than what luksctl stands on, and one with nothing is none at all."""
    assert problem() is None
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, target = tmp_path / "old.c", tmp_path / "libold.so"
    source.write_text(text)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    assert said in _run(_PROBLEM, str(target))


def test_library_that_does_not_open_is_named_by_every_call() -> None:
    """The error for a function says that its library did not open, not that it is old."""
    script = """
from luksctl.cryptsetup.library import Library, functions, missing, open_library
from luksctl.errors import DeviceError
try:
    open_library(Library.BLKID, "libnosuchblkid.so.9")
except DeviceError:
    print(missing(functions()["blkid_new_probe"]))
"""
    assert "libblkid cannot be opened (libnosuchblkid.so.9" in _run(script)


def test_import_opens_no_library() -> None:
    """A process that never calls a function never loads the libraries."""
    before, after = _run(_IMPORT_ONLY).splitlines()
    assert before == "[]"
    assert "libcryptsetup" in after


def test_stub_declares_what_is_compiled() -> None:
    """The stub has every compiled function with as many parameters, and nothing else of the libraries'."""
    (stub_lib,) = [n for n in ast.parse(_STUB.read_text()).body if isinstance(n, ast.ClassDef) and n.name == "Lib"]
    stubbed = {n.name: len(n.args.posonlyargs) - 1 for n in stub_lib.body if isinstance(n, ast.FunctionDef)}
    stubbed = {name: max(count, 0) for name, count in stubbed.items() if not name.startswith("luksctl_")}
    compiled = {name: len(ffi.typeof(getattr(lib, name)).args) for name in functions()}
    assert stubbed == compiled


def test_stub_is_what_its_generator_writes() -> None:
    """The checked-in stub follows from the declarations."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); import write_stub; sys.stdout.write(write_stub.render())"
    assert _run(script, str(_ROOT / "native")) == _STUB.read_text()


def test_every_function_has_a_version() -> None:
    """Each row of the table says which version brought it."""
    for function in functions().values():
        assert isinstance(function, LibraryFunction)
        assert _version(function.since) >= (2, 0)


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout
