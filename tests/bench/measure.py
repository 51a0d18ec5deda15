"""Measuring: everything that is compared runs in turn, round after round, so that a busy moment hits all alike."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
COMPILED = str(ROOT / "build" / "pycache")
ROUNDS = 7
# Starts are given as they would be where a bare `python -c pass` takes this long.
BARE_START_MS = 11.0

Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report and of build/bench.json. The goal is kept where `value` is not above it."""

    name: str
    value: float
    unit: str
    peer: str
    goal: float

    @property
    def holds(self) -> bool:
        """Tell whether the goal is kept."""
        return self.value <= self.goal

    def as_json(self) -> dict[str, object]:
        """Return the line as plain values."""
        return {**asdict(self), "value": round(self.value, 3), "holds": self.holds}


def medians_ms(actions: Mapping[str, Action], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median duration of each action in milliseconds, after one round that warms up and is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            begun = time.perf_counter()
            action()
            if number > 0:
                taken[name].append((time.perf_counter() - begun) * 1000)
    return {name: median(durations) for name, durations in taken.items()}


def command(arguments: Sequence[str], listen: Callable[[bytes], object] | None = None) -> Action:
    """Return an action that runs a program to its end; CalledProcessError with its words when it fails.

    `listen` is given what it wrote to standard error.

    Compiled modules are kept below build/, because a developer's environment may keep Python from writing any, and a
    node has them.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = COMPILED

    def run() -> None:
        done = subprocess.run(
            arguments, check=True, capture_output=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL
        )
        if listen is not None:
            listen(done.stderr)

    return run


def python(*arguments: str) -> Action:
    """Return an action that runs this interpreter."""
    return command((sys.executable, *arguments))


def unit_python(statement: str, *arguments: str) -> Action:
    """Return an action that runs this interpreter as units do (luksctl.boot.program)."""
    packages = [str(ROOT), sysconfig.get_path("platlib")]
    code = f"import sys; sys.path += {packages!r}; {statement}"
    return command((sys.executable, "-I", "-S", "-X", f"pycache_prefix={COMPILED}", "-c", code, *arguments))
