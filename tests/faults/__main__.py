"""`python -m tests.faults`: every cut of every operation (`make faults`)."""

from __future__ import annotations

import sys

from tests.faults.everything import main

if __name__ == "__main__":
    sys.exit(main())
