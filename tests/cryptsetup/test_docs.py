"""The example in docs/cryptsetup.md runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_DOCUMENT = Path(__file__).parents[2] / "docs" / "cryptsetup.md"


def test_example_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    """The example formats, adds, tests and rejects, quietly but for its own lines."""
    (example,) = re.findall(r"^```python\n(.*?)^```", _DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "the two copies are equal and probing says crypto_LUKS",
        "slot 1 opens",
        "disk.img, slot 0: test the key: the key does not open it (EPERM)",
    ]
