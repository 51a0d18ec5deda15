"""A boot that follows a change of keys, in a process of its own, killed after so many steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from tests.reconcile.images import Node


def killed_boot(directory: Path, change: str, steps: int) -> None:
    """Boot and die by SIGKILL after `steps` steps (0: before the first)."""
    # A server that has imported all this forks them, since each start would pay for it; but nothing there makes a
    # Secret, which a fork does not inherit.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_boot, args=(str(directory), change, steps))
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    if code != -signal.SIGKILL:
        raise AssertionError(f"{change}, {steps} steps: exit code {code}")


def _boot(directory: str, change: str, steps: int) -> None:
    from tests.reconcile.rotations import CHANGES, boot  # noqa: PLC0415  # its Secrets are this process's own

    _, new = CHANGES[change]
    run = boot(Node(Path(directory)), new)
    for _ in range(steps):
        next(run)
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def paused_boot(directory: Path, change: str, steps: int) -> Iterator[None]:
    """Have another process boot and stand still after `steps` steps while the `with` lasts; then it goes on."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe()
    process = context.Process(target=_pausing_boot, args=(str(directory), change, steps, there))
    process.start()
    there.close()
    here.recv()
    try:
        yield
    finally:
        here.close()
        process.join()
    if process.exitcode != 0:
        raise AssertionError(f"{change}: exit code {process.exitcode}")


def _pausing_boot(directory: str, change: str, steps: int, pipe: Connection) -> None:
    from tests.reconcile.rotations import CHANGES, boot  # noqa: PLC0415  # as above

    _, new = CHANGES[change]
    for count, _ in enumerate(boot(Node(Path(directory)), new), start=1):
        if count == steps:
            pipe.send("it stands")
            with suppress(EOFError):
                pipe.recv()
