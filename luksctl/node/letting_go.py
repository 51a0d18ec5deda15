"""Before a reset: run the operator's hooks, show who uses the volumes, unmount them. All of it is tried, none required.

What stays in use loses its header and keys all the same, and the rest of it at the next boot.
"""

from __future__ import annotations

from collections.abc import Sequence

from luksctl.devices.reset_host import User
from luksctl.errors import DeviceError
from luksctl.hints import Final, Protocol
from luksctl.node.node import Node
from luksctl.node.units import mount_unit
from luksctl.node.waiting import Deadline
from luksctl.value import frozen

_SHOWN: Final = 10
_LEAST_S: Final = 1.0


class Host(Protocol):
    """What is asked of the running machine."""

    def hooks(self, directory: str) -> tuple[str, ...]:
        """Return the programs in a drop-in directory, in order."""

    def run_hook(self, path: str, volumes: tuple[str, ...], timeout_s: float) -> None:
        """Run one of them; DeviceError where it fails or takes too long."""

    def users(self, mount_point: str) -> tuple[User, ...]:
        """Return who has something open on what is mounted there."""

    def stop_unit(self, unit: str, timeout_s: float) -> None:
        """Stop a unit and wait for it; DeviceError where it does not stop in time."""


@frozen
class LettingGo:
    """How to let go: on this node, by this host, until the deadline."""

    node: Node
    host: Host
    deadline: Deadline

    def let_go(self, volumes: Sequence[str]) -> None:
        """Run the hooks and unmount `volumes`, in this order; whatever does not work is told."""
        for hook in self.host.hooks(self.node.paths.reset_hooks):
            self.node.tell(f"running {hook}")
            try:
                self.host.run_hook(hook, tuple(volumes), self._left_s)
            except DeviceError as error:
                self.node.tell(f"{hook}: {error.cause}; going on")
        for volume in volumes:
            self._unmount(volume)

    @property
    def _left_s(self) -> float:
        return max(_LEAST_S, self.deadline.left_s)

    def _unmount(self, volume: str) -> None:
        mount_point = self.node.settings.volume(volume).mount_point
        if mount_point is None or self.node.system.mounted_from(mount_point) is None:
            return
        users = self.host.users(mount_point)
        for user in users[:_SHOWN]:
            self.node.tell(f"{volume}: {mount_point} is used by {user.command} ({user.pid}): {user.path}")
        if len(users) > _SHOWN:
            self.node.tell(f"{volume}: and by {len(users) - _SHOWN} more")
        self.node.tell(f"{volume}: unmounting {mount_point}")
        # The service remembers that it opened the volume, and would not be started for what comes after.
        for unit in (mount_unit(mount_point), f"luksctl-open@{volume}.service"):
            try:
                self.host.stop_unit(unit, self._left_s)
            except DeviceError as error:
                self.node.tell(f"{volume}: {unit} does not stop: {error.cause}")
                return
