"""`python -m tests.faults [OPERATION…]`: every cut of every operation (`make faults`), or of those that are named."""

from __future__ import annotations

import sys

from tests.faults.everything import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
