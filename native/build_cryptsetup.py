"""Build luksctl.cryptsetup._libcryptsetup: cffi API mode over our own table of functions (table.c).

Neither libcryptsetup nor libblkid is linked or needed to build: a linked extension asks the loader for the symbol
versions of the library it was built on, so it does not load on an older one, not even with weak symbols.
"""

from __future__ import annotations

import os
import sys

from cffi import FFI

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # setuptools runs this file with exec

import declarations

_OWN_DECLARATIONS = """
int luksctl_open(int library, const char *soname);
const char *luksctl_open_error(int library);
int luksctl_function_count(void);
const char *luksctl_function_name(int index);
const char *luksctl_function_since(int index);
int luksctl_function_library(int index);
int luksctl_function_present(int index);

extern "Python" void luksctl_on_log(int level, const char *msg, void *usrptr);
extern "Python" int luksctl_on_progress(uint64_t size, uint64_t offset, void *usrptr);
"""

_HEAD = """
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
"""


def _missing(result: str) -> str:
    """Return what a call returns when the library lacks the function."""
    if result == "void":
        return "return"
    if result.endswith("*"):
        return "return NULL"
    return "return 0" if result.startswith(("uint", "unsigned")) else f"return ({result})-ENOSYS"


def _trampoline(index: int, function: declarations.Function) -> str:
    parameters = ", ".join(parameter.text for parameter in function.parameters) or "void"
    arguments = ", ".join(parameter.name for parameter in function.parameters)
    call = f"call({arguments})" if function.result == "void" else f"return call({arguments})"
    return (
        f"static {function.result} {function.name}({parameters})\n{{\n"
        f"    {function.result} (*call)({parameters}) = find({index});\n\n"
        f"    if (call == NULL)\n        {_missing(function.result)};\n"
        f"    {call};\n}}\n"
    )


def c_source() -> str:
    """Return the C file: types, the table, the code that fills it, and one trampoline per function."""
    functions = declarations.functions()
    rows = "".join(f'    {{"{f.name}", "{f.since}", {f.library}, NULL}},\n' for f in functions)
    table = (
        f"#define FUNCTION_COUNT {len(functions)}\n#define LIBRARY_COUNT 2\n"
        "static struct { const char *name; const char *since; int library; void *address; } functions[] = {\n"
        f"{rows}}};\n"
    )
    with open(os.path.join(declarations.HERE, "table.c"), encoding="ascii") as source:
        opening = source.read()
    trampolines = "\n".join(_trampoline(index, function) for index, function in enumerate(functions))
    return "\n".join((_HEAD, declarations.types_only(declarations.all_text()), table, opening, trampolines))


ffi = FFI()
ffi.cdef(declarations.all_text() + _OWN_DECLARATIONS)
ffi.set_source(
    "luksctl.cryptsetup._libcryptsetup",
    c_source(),
    py_limited_api=True,
    extra_compile_args=["-Wall", "-Wno-unused-function"],
    extra_link_args=["-Wl,-s"],  # a fifth of the size, and the boot hook reads it from a cold disk
)
