"""`luksctl` as another machine has it: its files are in a directory, which is the first word."""

from __future__ import annotations

import sys
from pathlib import Path

from luksctl.cli.main import main
from tests.cli.desk import paths_in

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    sys.exit(main(("--settings", str(directory / "luksctl.yaml"), *sys.argv[2:]), paths_in(directory)))
