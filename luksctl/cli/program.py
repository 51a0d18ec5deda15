"""luksctl as units run it: `python -I …/luksctl/cli/program.py VERB …`, wherever luksctl was put.

Units need an absolute path, and not every installation has a `luksctl` command beside its Python. What luksctl imports
is looked for beside it, too, where an installer may have put all of it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and end it with its exit code."""
    sys.path.append(__file__.rsplit("/", 3)[0])
    from luksctl.cli.main import start  # noqa: PLC0415  # found only now

    start()


if __name__ == "__main__":
    main()
