"""The declarations in native/decl agree with the headers of the libraries, where those are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.cryptsetup._libcryptsetup import lib

_ROOT = Path(__file__).parents[2]
_DECLARATIONS = _ROOT / "native" / "decl"
_HEADERS = {"libcryptsetup.h": Path("/usr/include/libcryptsetup.h"), "blkid.h": Path("/usr/include/blkid/blkid.h")}
# Types that a header of 2.4 has, and the functions of newer ones use.
_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_TYPES = re.compile(r"^(#define|typedef enum \{.*?^\} \w+;|struct \w+ \{.*?^\};).*?\n", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^#define (\w+) |^    ([A-Z][A-Z0-9_]+)(?: = -?\d+)?,?$", re.MULTILINE)


def _own_text() -> str:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import declarations; print(declarations.all_text())"
    done = subprocess.run(
        [sys.executable, "-c", script, str(_ROOT / "native")], check=True, capture_output=True, text=True
    )
    return done.stdout


def _constants(text: str) -> list[str]:
    return [match[1] or match[2] for match in _CONSTANT.finditer(text)]


def _compile(source: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which("cc")
    if compiler is None or not all(header.exists() for header in _HEADERS.values()):
        pytest.skip("needs a C compiler, libcryptsetup-dev and libblkid-dev")
    program = tmp_path / "program.c"
    program.write_text(source)
    return subprocess.run([compiler, "-fsyntax-only", str(program)], check=False, capture_output=True, text=True)


def test_functions_constants_and_structs_agree_with_the_headers(tmp_path: Path) -> None:
    """The compiler takes our prototypes beside the installed ones, and finds the same values, offsets and sizes."""
    text = _own_text()
    functions = _TYPES.sub("", text)
    assert functions.count(");\n") > 100
    lines = ["#include <libcryptsetup.h>", "#include <blkid/blkid.h>", "#include <stddef.h>", functions]
    lines += [
        f'#ifdef {name}\n_Static_assert({name} == {getattr(lib, name)}, "{name}");\n#endif'
        for name in re.findall(r"^#define (\w+) ", text, re.MULTILINE)
    ]
    for name, body in _STRUCT.findall(text):
        lines.append(f"struct own_{name} {{\n{body}}};")
        lines.append(f'_Static_assert(sizeof(struct own_{name}) == sizeof(struct {name}), "size of {name}");')
        lines += [
            f'_Static_assert(offsetof(struct own_{name}, {field}) == offsetof(struct {name}, {field}), "{field}");'
            for field in re.findall(r"(\w+);", body)
        ]
    done = _compile("\n".join(lines), tmp_path)
    assert done.stderr == ""
    assert done.returncode == 0


def test_enum_values_agree_with_the_headers(tmp_path: Path) -> None:
    """Each enum member of ours has the value that the header gives it."""
    text = _own_text()
    enums = [name for name in _constants(text) if name.startswith("CRYPT_") and f"#define {name} " not in text]
    assert len(enums) > 30
    assertions = [f'_Static_assert((int){name} == {getattr(lib, name)}, "{name}");' for name in enums]
    done = _compile("#include <libcryptsetup.h>\n" + "\n".join(assertions), tmp_path)
    assert done.stderr == ""


def test_a_wrong_prototype_would_be_found(tmp_path: Path) -> None:
    """The compiler refuses a prototype that contradicts the header, so that agreement means something."""
    wrong = "#include <libcryptsetup.h>\nint crypt_load(struct crypt_device *cd, int requested_type, void *params);\n"
    assert _compile(wrong, tmp_path).returncode != 0
