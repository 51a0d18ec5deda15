"""An operation in a process of its own, killed before it begins, after a step, or before a write or sync of ours."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from luksctl.reconcile.apply import Run
from tests.reconcile import images  # noqa: F401  # once, for all processes that are forked


@contextmanager
def points(directory: Path, at: Callable[[], None]) -> Iterator[None]:
    """Call `at` here, after every step of a run, and before each write, sync and rename that Python does there."""

    def is_there(target: object) -> bool:
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
        return path.startswith(str(directory))

    def before(name: str) -> Callable[..., object]:
        call: Callable[..., object] = getattr(os, name)

        def announced(target: object, *rest: object) -> object:
            if is_there(target):
                at()
            return call(target, *rest)

        return announced

    step = Run.take

    def announced_step(run: Run, *rest: object) -> object:
        done = step(run, *rest)  # type: ignore[arg-type]  # whatever a step is
        at()
        return done

    with ExitStack() as patched:
        for name in ("pwrite", "fsync", "rename", "unlink"):
            patched.enter_context(mock.patch.object(os, name, before(name)))
        patched.enter_context(mock.patch.object(Run, "take", announced_step))
        at()
        yield


def renew(directory: Path, kept: Path) -> None:
    """Put everything in `directory` back to how it was."""
    shutil.rmtree(directory)
    shutil.copytree(kept, directory, ignore=shutil.ignore_patterns("kept-*", "run", "locks"))


def count_points(directory: Path, perform: Callable[[Path], None]) -> int:
    """Perform the operation in this process, and return how many points it has."""
    counted: list[None] = []
    with points(directory, lambda: counted.append(None)):
        perform(directory)
    return len(counted)


def kill_at(directory: Path, name: str, number: int) -> None:
    """Perform the operation `name`, and die by SIGKILL at point `number`, from 0 on."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_perform, args=(str(directory), name, number))
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    if code != -signal.SIGKILL:
        raise AssertionError(f"{name}, point {number}: exit code {code}")


def _perform(directory: str, name: str, number: int) -> None:
    from tests.faults.killed import KILLED  # noqa: PLC0415  # its Secrets are this process's own

    passed: list[None] = []

    def at() -> None:
        if len(passed) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        passed.append(None)

    with points(Path(directory), at):
        KILLED[name].perform(Path(directory))
