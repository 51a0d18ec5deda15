"""The compiled part of tpm2-pytss is loaded without the rest of it, and what is wrong with it is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.errors import TpmReason, TpmRejected
from luksctl.providers.tpm_library import load_library
from tests.house.tree import ROOT
from tests.providers.measured_boot import Machine

_COMPILED = "tpm2_pytss._libtpm2_pytss"
_SCRIPT = f"""
import sys
from luksctl.providers.tpm_library import load_library
ffi, lib = load_library()
assert ffi.sizeof("TPM2B_SENSITIVE_DATA") > 128 and lib.Esys_Unseal
print(*(name for name in sys.modules if name.partition(".")[0] in ("tpm2_pytss", "cryptography")))
import tpm2_pytss
assert sys.modules["{_COMPILED}"].ffi is ffi
"""


def test_nothing_but_the_compiled_part_is_loaded() -> None:
    """No classes and no X.509; and the package shares it, where somebody wants that one after all."""
    shown = subprocess.run([sys.executable, "-c", _SCRIPT], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert set(shown.split()) == {_COMPILED, f"{_COMPILED}.lib"}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (None, "tpm2-pytss is not installed"),
        (("__init__.py",), f"has no {_COMPILED}"),
        (("__init__.py", "_libtpm2_pytss.abi3.so"), "file too short"),
    ],
)
def test_without_the_library_another_key_has_to_serve(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: tuple[str, ...] | None, told: str
) -> None:
    """Absent, of another make, or torn: the hint says how to get it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tpm2_pytss"]:
        monkeypatch.delitem(sys.modules, name)
    if files is None:
        monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    else:
        (tmp_path / "tpm2_pytss").mkdir()
        for name in files:
            (tmp_path / "tpm2_pytss" / name).touch()
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TpmRejected, match=told) as caught:
        machine.make()
    assert caught.value.reason is TpmReason.NO_LIBRARY
    assert "luksctl[tpm]" in (caught.value.hint or "")


def test_it_is_loaded_once() -> None:
    """Structures of one copy mean nothing to another."""
    assert load_library() == load_library()
