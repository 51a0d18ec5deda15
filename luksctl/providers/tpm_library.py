"""The compiled part of tpm2-pytss: ESAPI and the marshalling of tpm2-tss by cffi, without the package around it.

The package itself loads classes for every structure, and X.509 for conversions nobody asks for: ten times what its
compiled part needs, at every boot.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

from luksctl.errors import TpmReason, TpmRejected
from luksctl.hints import Any, Final

_PACKAGE: Final = "tpm2_pytss"
_COMPILED: Final = "tpm2_pytss._libtpm2_pytss"


def load_library() -> tuple[Any, Any]:
    """Return `ffi` and `lib` of the compiled part; TpmRejected where it is not there, or cannot be loaded.

    Whoever imports the package later gets the same module.
    """
    # The library writes what it makes of every expected failure to standard error, unless it is told before its first
    # call not to.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        compiled = sys.modules.get(_COMPILED) or _loaded()
    except ImportError as error:
        raise TpmRejected(
            f"the TPM library cannot be loaded: {error}",
            reason=TpmReason.NO_LIBRARY,
            hint="pip install 'luksctl[tpm]', which needs libtss2-dev, gcc and pkg-config",
        ) from error
    return compiled.ffi, compiled.lib


def _loaded() -> Any:
    package = find_spec(_PACKAGE)  # looks where it is, and runs nothing of it
    if package is None:
        raise ImportError("tpm2-pytss is not installed")
    spec = PathFinder.find_spec(_COMPILED, package.submodule_search_locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{package.origin} has no {_COMPILED}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_COMPILED] = module
    return module
