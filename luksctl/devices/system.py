"""The running machine: its mounts, its memory, its kernel arguments, its clock, and its systemd."""

from __future__ import annotations

import os
import time

from luksctl.devices.tree import BlockTree
from luksctl.errors import DeviceError
from luksctl.hints import Final, final

# A unit we start may wait for its own deadline first.
_UNIT_TIMEOUT_S: Final = 600.0
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


@final
class RunningSystem:
    """What only a running system can tell or do."""

    def __init__(
        self, tree: BlockTree, cmdline_path: str = "/proc/cmdline", meminfo_path: str = "/proc/meminfo"
    ) -> None:
        self._tree = tree
        self._cmdline_path = cmdline_path
        self._meminfo_path = meminfo_path

    def mounted_from(self, mount_point: str) -> str | None:
        """Return the resolved device mounted at exactly `mount_point` (the topmost one), or None."""
        source = None
        for number, shown, target in self._tree.mounts():
            if target == mount_point:
                node = f"{self._tree.roots.dev}/block/{number}"
                source = node if os.path.exists(node) else shown
        return None if source is None else os.path.realpath(source)

    def start_unit(self, unit: str) -> None:
        """Start a unit and wait for it; DeviceError with systemd's words when it fails."""
        _systemctl("start", unit)

    def start_soon(self, unit: str) -> None:
        """Have systemd start a unit, without waiting for it; DeviceError where it does not know it."""
        _systemctl("start", "--no-block", unit)

    def start_dependants(self, unit: str) -> tuple[str, ...]:
        """Start what this boot wants, what needs `unit` and is not running; return the names."""
        # Not at the top: few boots have any.
        from luksctl.devices.unit_states import dependants  # noqa: PLC0415

        found = dependants(unit)
        if found:
            _systemctl("start", "--no-block", "--", *found)
        return found

    def stop_unit(self, unit: str) -> None:
        """Stop a unit and wait for it; DeviceError with systemd's words when it fails."""
        _systemctl("stop", unit)

    def reset_failed(self, unit: str) -> None:
        """Forget that a unit failed; a unit that never failed is fine."""
        _systemctl("reset-failed", "--", f"{unit}*")

    def reload_units(self) -> None:
        """Have systemd read its unit files again."""
        _systemctl("daemon-reload")

    def memory_kib(self) -> int:
        """Return the machine's memory."""
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024

    def available_memory_kib(self) -> int | None:
        """Return what the kernel could give without swapping (MemAvailable), None where it does not say."""
        try:
            with open(self._meminfo_path, encoding="ascii") as source:
                fields = dict(line.split(":", 1) for line in source if ":" in line)
        except OSError:
            return None
        words = fields.get("MemAvailable", "").split()
        return int(words[0]) if words else None

    def kernel_arguments(self) -> tuple[str, ...]:
        """Return the words of the kernel command line."""
        with open(self._cmdline_path, encoding="utf-8", errors="surrogateescape") as source:
            return tuple(source.read().split())

    def boot_id(self) -> str:
        """Return what tells this boot from all others (random(4), boot_id)."""
        with open(_BOOT_ID, encoding="ascii") as source:
            return source.read().strip()

    def clock_awaited(self) -> bool:
        """Tell whether the clock is not synchronised yet, and somebody is at it."""
        from luksctl.devices.clock import clock_awaited  # noqa: PLC0415  # only where a certificate is to be judged

        return clock_awaited()

    def tell_ready(self) -> None:
        """Tell systemd that the service runs, if it wants to know (sd_notify(3)); DeviceError where it cannot be."""
        from luksctl.sd_notify import READY, notify  # noqa: PLC0415  # few services do, and a start is timed

        try:
            notify(READY)
        except OSError as error:
            raise DeviceError(f"systemd cannot be told that the service runs: {error.strerror}") from error

    def reboot(self) -> None:
        """Have systemd reboot the machine, and return at once; DeviceError where it does not begin."""
        _systemctl("--no-block", "reboot")

    def power_off(self) -> None:
        """Have systemd switch the machine off, and return at once; DeviceError where it does not begin."""
        _systemctl("--no-block", "poweroff")

    def monotonic_s(self) -> float:
        """Return seconds on a clock that all processes of this boot share."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def _systemctl(*arguments: str) -> None:
    # Not at the top: the hook starts no unit, and its start is timed.
    from luksctl.devices.programs import Program, locate, run  # noqa: PLC0415

    run([locate(Program("systemctl", "systemd")), *arguments], timeout_s=_UNIT_TIMEOUT_S)
