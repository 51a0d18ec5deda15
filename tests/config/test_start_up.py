"""The boot hook imports this room, so it imports little."""

from __future__ import annotations

import subprocess
import sys

SLOW = {"ruamel", "rich", "msgspec", "difflib", "urllib", "json", "argparse", "socket", "asyncio"}


def test_only_what_parsing_needs_is_imported() -> None:
    """Reading a config and the settings imports nothing that is slow and not needed for it."""
    code = "import sys; before = set(sys.modules); import {}; print(*set(sys.modules) - before)"
    rooms = "luksctl.config.documents, luksctl.config.settings"
    run = subprocess.run([sys.executable, "-I", "-c", code.format(rooms)], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in run.stdout.split()}
    assert {"luksctl", "yaml"} <= imported
    assert imported & SLOW == set()
