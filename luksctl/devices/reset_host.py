"""What a reset asks of the running machine: the operator's hooks, who uses a mount, and units to stop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from luksctl.devices.programs import Program, locate, run
from luksctl.hints import Final, final
from luksctl.value import frozen

_SYSTEMCTL: Final = Program("systemctl", "systemd")
_LINKS: Final = ("cwd", "root", "exe")


@frozen
class User:
    """A process that keeps a mount busy, and by what: a file, its directory, its program."""

    pid: int
    command: str
    path: str


@final
class ResetHost:
    """What a reset asks of the running machine; `proc` can be moved, for tests."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc

    def hooks(self, directory: str) -> tuple[str, ...]:
        """Return the programs in a drop-in directory, in order of their names; none where there is none."""
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            return ()
        paths = (os.path.join(directory, name) for name in names if not name.startswith("."))
        return tuple(path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK))

    def run_hook(self, path: str, volumes: tuple[str, ...], timeout_s: float) -> None:
        """Run one of them with the volumes as arguments; DeviceError where it fails or takes too long."""
        run([path, *volumes], timeout_s=timeout_s)

    def users(self, mount_point: str) -> tuple[User, ...]:
        """Return who has something open on the filesystem that is mounted there; root sees all of them."""
        try:
            device = os.stat(mount_point).st_dev
        except OSError:
            return ()
        found = (self._use_of(int(name), device) for name in os.listdir(self._proc) if name.isdecimal())
        return tuple(user for user in found if user is not None and user.pid != os.getpid())

    def stop_unit(self, unit: str, timeout_s: float) -> None:
        """Stop a unit and wait for it; DeviceError where it does not stop in time."""
        run([locate(_SYSTEMCTL), "stop", "--", unit], timeout_s=timeout_s)

    def _use_of(self, pid: int, device: int) -> User | None:
        for link in self._links(pid):
            with suppress(OSError):
                if os.stat(link).st_dev == device:
                    return User(pid, self._command(pid), os.readlink(link))
        return None

    def _links(self, pid: int) -> Iterator[str]:
        """Yield what shows the files that a process holds; processes come and go while they are looked at."""
        place = f"{self._proc}/{pid}"
        yield from (f"{place}/{name}" for name in _LINKS)
        for directory in ("fd", "map_files"):
            with suppress(OSError):
                yield from (f"{place}/{directory}/{name}" for name in os.listdir(f"{place}/{directory}"))

    def _command(self, pid: int) -> str:
        try:
            with open(f"{self._proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return "?"
