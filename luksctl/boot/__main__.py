"""`python -m luksctl.boot`."""

import sys

from luksctl.boot.hook import run

sys.exit(run())
