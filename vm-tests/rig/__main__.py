"""Build the guest image, or sit down at a guest: `PYTHONPATH=vm-tests python -m rig build|shell`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rig import host
from rig.disk import Shelf
from rig.errors import RigError
from rig.image import image
from rig.power import prepare
from rig.spec import MachineSpec, Places, arguments
from rig.tree import tree


def main() -> int:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m rig", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the guest image if its inputs changed")
    shell = commands.add_parser("shell", help="boot a guest with a blank Talos disk and show its console")
    shell.add_argument("--file", action="append", default=[], metavar="GUEST=HOST", help="place a file into the guest")
    shell.add_argument("--network", action="store_true", help="with a network that reaches this host's loopback")
    options = parser.parse_args()
    try:
        host.check_can_run()
        if options.command == "build":
            print(image().directory)
            return 0
        return _shell(options)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1


def _shell(options: argparse.Namespace) -> int:
    files = {}
    for pair in options.file:
        inside, _, outside = pair.partition("=")
        files[inside] = Path(outside).read_bytes()
    with tempfile.TemporaryDirectory(prefix="rig-") as directory:
        places = Places(Path(directory))
        spec = MachineSpec(disks=(Shelf(Path(directory)).talos(),), files=files, network=options.network)
        prepare(spec, image(), places)
        argv = arguments(spec, image(), tree(), places, "tcg")
        argv[argv.index("-serial") + 1] = "mon:stdio"
        print("rig: log in as root, no password; ctrl-a x cuts the power", file=sys.stderr)
        return subprocess.run([host.program(host.QEMU), *argv], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
