"""The node as its flows see it: settings, ports of the pipe, and the few things only a running system can do."""

from __future__ import annotations

from collections.abc import Callable

from luksctl.hints import Protocol
from luksctl.model.config import Settings
from luksctl.model.ports import Ports
from luksctl.model.step import Done
from luksctl.value import frozen


class System(Protocol):
    """The running machine."""

    def mounted_from(self, mount_point: str) -> str | None:
        """Return the resolved device mounted at exactly `mount_point`, or None."""

    def start_unit(self, unit: str) -> None:
        """Start a systemd unit and wait for it; DeviceError with systemd's words when it fails."""

    def start_soon(self, unit: str) -> None:
        """Have systemd start a unit, without waiting for it; DeviceError where it does not know it."""

    def start_dependants(self, unit: str) -> tuple[str, ...]:
        """Start what this boot wants, what needs `unit` and is not running; return the names."""

    def reset_failed(self, unit: str) -> None:
        """Forget that a unit failed, so that it can be started again at once."""

    def memory_kib(self) -> int:
        """Return the machine's memory."""

    def kernel_arguments(self) -> tuple[str, ...]:
        """Return the words of the kernel command line."""

    def boot_id(self) -> str:
        """Return what tells this boot from all others."""

    def clock_awaited(self) -> bool:
        """Tell whether the clock is not synchronised yet, and somebody is at it."""

    def tell_ready(self) -> None:
        """Tell systemd that the service has started, if it wants to know."""

    def reboot(self) -> None:
        """Have systemd reboot the machine, and return at once; DeviceError where it does not begin."""

    def power_off(self) -> None:
        """Have systemd switch the machine off, and return at once; DeviceError where it does not begin."""

    def monotonic_s(self) -> float:
        """Return seconds on a clock that all processes of this boot share."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@frozen
class Paths:
    """Where a node keeps what is not on a volume; tests move them elsewhere."""

    run_dir: str = "/run/luksctl"
    machine_config: str = "/etc/luksctl/machine.yaml"
    credential_dirs: tuple[str, ...] = ("/run/credentials/@system",)
    expected_encrypted: str = "/etc/luksctl/expected.json"
    erasures: str = "/var/lib/luksctl/erasures"
    reset_hooks: str = "/etc/luksctl/reset.d"

    def volume_link(self, volume: str) -> str:
        """Return the link that the mount unit of `volume` mounts from."""
        return f"{self.run_dir}/volume/{volume}"

    def report(self, volume: str) -> str:
        """Return the file that says how `volume` is."""
        return f"{self.run_dir}/report/{volume}.json"

    @property
    def sealed_pcrs(self) -> str:
        """Return the file that notes what keys were sealed to, until STATE is mounted."""
        return f"{self.run_dir}/sealed-pcrs.json"


@frozen
class Node:
    """Everything a flow needs.

    `announce` is called after every step, `tell` before what may take long. `note_machine` records in META which
    machine this is, unless it is there. `left_for_network` tells whether a key was not asked for, because this stage of
    the boot has no network.
    """

    settings: Settings
    ports: Ports
    system: System
    paths: Paths
    announce: Callable[[Done], None]
    note_machine: Callable[[], None]
    tell: Callable[[str], None]
    left_for_network: Callable[[], bool] = lambda: False
