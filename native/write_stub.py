"""Write luksctl/cryptsetup/_libcryptsetup.pyi from decl/*.h: `python native/write_stub.py`; a test compares.

Every C pointer type is a Python type of its own, so mixing two of them up is a type error.
"""

from __future__ import annotations

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import declarations

STUB = os.path.join(os.path.dirname(declarations.HERE), "luksctl", "cryptsetup", "_libcryptsetup.pyi")
_OPAQUE = {
    "crypt_device": "CryptDevice",
    "crypt_keyslot_context": "KeyslotContext",
    "blkid_struct_probe": "BlkidProbe",
    "blkid_struct_partlist": "BlkidPartlist",
    "blkid_struct_partition": "BlkidPartition",
    "blkid_struct_parttable": "BlkidParttable",
}
_STRUCTS = {
    "crypt_pbkdf_type": "PbkdfType",
    "crypt_params_integrity": "ParamsIntegrity",
    "crypt_params_luks2": "ParamsLuks2",
    "crypt_active_device": "ActiveDevice",
    "crypt_params_reencrypt": "ParamsReencrypt",
}
_LINE_LENGTH = 120
_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^#define (\w+) |^    ([A-Z_]+)(?: = -?\d+)?,?$", re.MULTILINE)
_NEW_PLAIN = {
    "size_t *": "Out[int]",
    "uint32_t *": "Out[int]",
    "uint64_t *": "Out[int]",
    "const char **": "Out[Chars]",
}

_HEAD = """\
# Written by native/write_stub.py from native/decl; do not edit.
# ruff: noqa: A002, N801
from collections.abc import Callable
from typing import Generic, Literal, NewType, Protocol, TypeAlias, TypeVar, overload

_T = TypeVar("_T")

class CData:
    def __bool__(self) -> bool: ...

class Null(CData): ...
class Chars(CData): ...
class Callback(CData): ...
class Handle(CData): ...

Text: TypeAlias = bytes | Chars | Null
Fields: TypeAlias = dict[str, object]

class Out(CData, Generic[_T]):
    def __getitem__(self, index: Literal[0]) -> _T: ...
    def __setitem__(self, index: Literal[0], value: _T) -> None: ...
"""

_FFI_HEAD = """
class FFI:
    NULL: Null
    class error(Exception): ...

    def string(self, cdata: Chars | Null, maxlen: int = -1) -> bytes: ...
    def from_buffer(self, buffer: bytes | bytearray | memoryview) -> Chars: ...
    def release(self, cdata: CData) -> None: ...
    def new_handle(self, value: object) -> Handle: ...
    def from_handle(self, handle: Handle) -> object: ...
    def sizeof(self, ctype: str) -> int: ...
    def offsetof(self, ctype: str, field: str) -> int: ...
    def typeof(self, value: object) -> CType: ...
    def def_extern(
        self,
        *,
        name: str = ...,
        error: int = ...,
        onerror: Callable[[type[BaseException], BaseException, object], None] = ...,
    ) -> Callable[[_T], _T]: ...
    @overload
    def new(self, ctype: Literal["char[]"], init: bytes | int) -> Chars: ...
"""

_LIB_OWN = """\
    luksctl_on_log: Callback
    luksctl_on_progress: Callback
    def luksctl_open(self, library: int, soname: bytes | Null, /) -> int: ...
    def luksctl_open_error(self, library: int, /) -> Chars: ...
    def luksctl_function_count(self) -> int: ...
    def luksctl_function_name(self, index: int, /) -> Chars: ...
    def luksctl_function_since(self, index: int, /) -> Chars: ...
    def luksctl_function_library(self, index: int, /) -> int: ...
    def luksctl_function_present(self, index: int, /) -> int: ...
"""


def _pointer(ctype: str) -> str | None:
    match = re.fullmatch(r"(?:const )?struct (\w+) (\*+)", ctype)
    if match is None:
        return None
    name = (_OPAQUE | _STRUCTS)[match[1]]
    return name if match[2] == "*" else f"Out[{name}]"


def _result(ctype: str) -> str:
    plain = {"void": "None", "void *": "Handle", "const char *": "Chars"}
    return plain.get(ctype) or _pointer(ctype) or "int"


def _argument(ctype: str) -> str:
    plain = {
        "const char *": "Text",
        "char *": "Chars | Null",
        "void *": "CData",
        "const void *": "CData",
        "callback": "Callback | Null",
        **_NEW_PLAIN,
        "const char **": "Out[Chars] | Null",
    }
    pointer = _pointer(ctype)
    # Only a callback may be set for no handle at all, and only parameter structs may be left out.
    optional = pointer in {"CryptDevice", "KeyslotContext", *_STRUCTS.values()}
    return plain.get(ctype) or (f"{pointer} | Null" if optional else pointer or "int")


def _class_of(struct: re.Match[str]) -> str:
    lines = [f"class {_STRUCTS[struct[1]]}(CData):"]
    for field in struct[2].strip().splitlines():
        ctype, name = re.fullmatch(r"\s*(.*?[ *])(\w+);", field).groups()  # type: ignore[union-attr]
        pointer = _result(ctype.strip())
        lines.append(f"    {name}: {pointer if pointer == 'int' else pointer + ' | Null'}")
    return "\n".join(lines)


def _method(function: declarations.Function) -> str:
    arguments = [f"{p.name}: {_argument(p.type)}" for p in function.parameters]
    positional = ["self", *arguments, "/"] if arguments else ["self"]
    line = f"    def {function.name}({', '.join(positional)}) -> {_result(function.result)}: ..."
    if len(line) <= _LINE_LENGTH:
        return line
    return "\n".join(
        (
            f"    def {function.name}(",
            *(f"        {text}," for text in positional),
            f"    ) -> {_result(function.result)}: ...",
        )
    )


def _new(ctype: str, result: str) -> str:
    init = ", init: Fields = ..." if result in _STRUCTS.values() else ""
    return f'    @overload\n    def new(self, ctype: Literal["{ctype}"]{init}) -> {result}: ...'


def render() -> str:
    """Return the text of the stub."""
    text = declarations.all_text()
    news = dict(_NEW_PLAIN)
    news |= {f"struct {c} **": f"Out[{python}]" for c, python in _OPAQUE.items() if c.startswith("crypt")}
    news |= {f"struct {c} *": python for c, python in _STRUCTS.items()}
    parts = [
        _HEAD,
        *(f'{python} = NewType("{python}", CData)' for python in _OPAQUE.values()),
        *("\n" + _class_of(struct) for struct in _STRUCT.finditer(text)),
        "\nclass CType(Protocol):\n    kind: str\n    args: tuple[object, ...]",
        _FFI_HEAD.rstrip(),
        *(_new(ctype, result) for ctype, result in news.items()),
        "\nclass Lib:",
        *(f"    {match[1] or match[2]}: int" for match in _CONSTANT.finditer(text)),
        _LIB_OWN.rstrip(),
        *(_method(function) for function in declarations.functions()),
        "\nffi: FFI\nlib: Lib\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    with open(STUB, "w", encoding="ascii") as target:
        target.write(render())
