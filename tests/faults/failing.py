"""Perform an operation on a disk that fails at one place (failing.c)."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luksctl.units import KIB, MIB

_ROOT: Final = Path(__file__).parents[2]
READ: Final = "r"
WRITE: Final = "w"


@dataclass(frozen=True)
class Failure:
    """Reads or writes that touch these bytes of STATE end with EIO, but for the first few."""

    kind: str
    place: range
    after: int = 0


HEADER: Final = range(32 * KIB)
KEY_AREAS: Final = range(32 * KIB, 16 * MIB)
DATA: Final = range(16 * MIB, 1 << 40)


@dataclass(frozen=True)
class Outcome:
    """How it ended: whether anything failed that was to, and the class and text of the error that it raised."""

    failed: bool
    error: str


def build_failing(directory: Path) -> Path:
    """Compile what fails into `directory`."""
    made = directory / "failing.so"
    source = Path(__file__).with_suffix(".c")
    flags = ("-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE", "-U_FORTIFY_SOURCE")
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(made), str(source)], check=True)
    return made


def perform_failing(library: Path, directory: Path, operation: str, failure: Failure) -> Outcome:
    """Perform `operation` on the node in `directory`, in a process of its own."""
    noted = directory.with_name(f"{directory.name}.failed")
    noted.unlink(missing_ok=True)
    place = f"{failure.kind} {failure.place.start} {failure.place.stop} {failure.after} {directory / 'state.img'}"
    environment = {**os.environ, "LD_PRELOAD": str(library), "FAULTS_FAIL": place, "FAULTS_FAILED": str(noted)}
    argv = [sys.executable, "-m", "tests.faults.perform", str(directory), operation]
    ended = subprocess.run(argv, check=False, env=environment, cwd=_ROOT, capture_output=True)
    said = ended.stderr.decode().splitlines()
    raised = [line for line in said if line.startswith("luksctl.errors.")]
    return Outcome(noted.exists(), raised[-1] if raised else "\n".join(said))
