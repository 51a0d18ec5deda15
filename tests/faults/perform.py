"""One operation in a process of its own, for the recorder: `perform DIRECTORY OPERATION`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.operations import perform

if __name__ == "__main__":
    perform(Path(sys.argv[1]), sys.argv[2])
