"""Where `luksctl-boot` begins: its modules are loaded without a search for garbage, of which an import leaves none.

Meanwhile another thread opens libcryptsetup, which needs no Python for that.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType


def load() -> ModuleType:
    """Load the boot hook and all that it needs, and set it apart from what may become garbage later."""
    gc.disable()
    # Compiled modules load one at a time, libraries among them: these come first, and what is left meanwhile is Python.
    import fcntl  # noqa: F401, PLC0415
    import json  # noqa: F401, PLC0415
    import mmap  # noqa: F401, PLC0415
    import struct  # noqa: F401, PLC0415

    from luksctl.cryptsetup.library import open_ahead  # noqa: PLC0415  # what this module is for

    open_ahead()
    from luksctl.boot import hook  # noqa: PLC0415  # what this module is for

    gc.freeze()
    gc.enable()
    return hook


def run() -> int:
    """Run the hook and return its exit code."""
    exit_code: int = load().run(sys.argv[1:])
    return exit_code
