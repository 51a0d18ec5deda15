"""A host that remembers what it was asked, for flows that need one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from luksctl.devices.mountpoints import MountedOver, NotSealable, Prepared, Sealed
from luksctl.errors import DeviceError


@dataclass(slots=True)
class RecordingHost:
    """Prepares directories without a flag where `flag` is not set; `mounts` are the mount points in use."""

    flag: bool = True
    mounts: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def prepare(self, path: str) -> Prepared:
        """Make the directory, and pretend to seal it."""
        if path in self.mounts:
            return MountedOver(path)
        os.makedirs(path, exist_ok=True)
        self.asked.append(f"prepare {path}")
        return Sealed(path) if self.flag else NotSealable(path, "no flag here")

    def restore(self, path: str) -> None:
        """Note it."""
        self.asked.append(f"restore {path}")

    def mounted(self, path: str) -> bool:
        """Say what `mounts` says."""
        return path in self.mounts

    def reload_units(self) -> None:
        """Note it."""
        self.asked.append("reload")

    def start_unit(self, unit: str) -> None:
        """Note it, or fail."""
        if unit in self.failing:
            raise DeviceError(f"{unit} failed")
        self.asked.append(f"start {unit}")

    def stop_unit(self, unit: str) -> None:
        """Note it."""
        self.asked.append(f"stop {unit}")
