"""What this host offers: programs, rights, places, and how much patience its load calls for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import BuildFailed, Precondition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache" / "vm"

QEMU = "qemu-system-x86_64"
TO_RUN = (QEMU, "setpriv", "sgdisk", "mkfs.ext4", "mkfs.erofs")
TO_BUILD = ("mmdebstrap", "mkfs.erofs", "dpkg-deb", "depmod", "busybox")
ADMIN_PATH = "/usr/sbin:/sbin"


def program(name: str) -> str:
    """Find a program, in the administrator's directories too.

    Raises Precondition when it is not installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}")
    if found is None:
        raise Precondition(f"{name} is not installed; vm-tests/packages.txt lists the Debian packages the rig needs")
    return found


def check_can_run() -> None:
    """Raise Precondition unless guests can be started here."""
    for name in TO_RUN:
        program(name)


def check_can_build() -> None:
    """Raise Precondition unless the guest image can be built here."""
    if os.geteuid() != 0:
        raise Precondition("building the guest image needs root (mmdebstrap installs packages into a directory)")
    for name in TO_BUILD:
        program(name)


def must_run() -> bool:
    """Tell whether a missing precondition is a failure instead of a skip."""
    return os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("LUKSCTL_REQUIRE_VM") == "1"


def patience() -> float:
    """Return the factor for every timeout: 1 on a quiet host, up to 4 on a loaded one, times LUKSCTL_VM_PATIENCE."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(max(load, 1.0), 4.0) * float(os.environ.get("LUKSCTL_VM_PATIENCE", "1"))


def run(argv: Sequence[str], *, env: dict[str, str] | None = None) -> str:
    """Run a program of this host to its end and return its standard output.

    Raises BuildFailed with the command and the end of its error output when it fails.
    """
    command = [program(argv[0]), *argv[1:]]
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise BuildFailed(f"{' '.join(command)}: exit status {done.returncode}\n{tail}")
    return done.stdout


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Say on standard error what is being done, and how long it took."""
    started = time.monotonic()
    print(f"rig: {what} …", file=sys.stderr, flush=True)
    yield
    print(f"rig: {what}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
