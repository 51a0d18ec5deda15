"""What enable and disable need of the running machine: mount points to seal, and systemd to tell."""

from __future__ import annotations

from luksctl.devices import mountpoints
from luksctl.devices.system import RunningSystem
from luksctl.devices.tree import BlockTree
from luksctl.hints import final


@final
class UnitHost:
    """What enable and disable need of the running machine."""

    def __init__(self, tree: BlockTree) -> None:
        self._tree = tree
        self._system = RunningSystem(tree)

    def prepare(self, path: str) -> mountpoints.Prepared:
        """Make the directory under a mount point and seal it."""
        return mountpoints.prepare(path, self._tree)

    def restore(self, path: str) -> None:
        """Make that directory an ordinary one again."""
        mountpoints.unprepare(path)

    def mounted(self, path: str) -> bool:
        """Tell whether something is mounted at exactly `path`."""
        return self._system.mounted_from(path) is not None

    def reload_units(self) -> None:
        """Have systemd read its unit files again."""
        self._system.reload_units()

    def start_unit(self, unit: str) -> None:
        """Start a unit and wait for it."""
        self._system.start_unit(unit)

    def stop_unit(self, unit: str) -> None:
        """Stop a unit and wait for it."""
        self._system.stop_unit(unit)
