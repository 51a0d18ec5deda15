"""`luksctl` as another machine has it: its files are in a directory, the first word; a reboot is noted there."""

from __future__ import annotations

import sys
from pathlib import Path

from luksctl.cli.main import main
from luksctl.devices.system import RunningSystem
from tests.cli.desk import paths_in

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    # The machine below is the one that runs these tests.
    RunningSystem.reboot = lambda _: (directory / "rebooted").touch()  # type: ignore[assignment, method-assign]
    sys.exit(main(("--settings", str(directory / "luksctl.yaml"), *sys.argv[2:]), paths_in(directory)))
