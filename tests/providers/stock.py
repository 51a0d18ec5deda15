"""The stock cryptsetup command, which knows nothing of luksctl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def opens(image: Path, passphrase: bytes) -> bool:
    """Tell whether `cryptsetup open` takes `passphrase`, given as it would be typed: a line."""
    command = ["cryptsetup", "open", "--test-passphrase", "--type", "luks2", str(image)]
    done = subprocess.run(command, input=passphrase + b"\n", capture_output=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode == 0
