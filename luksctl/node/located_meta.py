"""META wherever it is now: found anew at every call, and written under the lock that others who write it take."""

from __future__ import annotations

import os
from collections.abc import Callable

from luksctl.devices.disks import SystemDisks
from luksctl.errors import AmbiguousDevice, MetaError
from luksctl.hints import TYPE_CHECKING
from luksctl.meta.store import AdvStore
from luksctl.model.config import META, ByImage, Settings, VolumeEncryption
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord
from luksctl.model.observed import Ambiguous, Missing
from luksctl.model.probe import Device

if TYPE_CHECKING:
    from luksctl.model.meta import KeptAccess


class LocatedMeta:
    """The MetaStore port over wherever META is now; the device is looked for at every call and never remembered."""

    def __init__(self, settings: Settings, disks: SystemDisks, lock_dir: str) -> None:
        self._settings = settings
        self._disks = disks
        self._lock_dir = lock_dir
        self._latest: MetaFacts | None = None

    def load(self) -> MetaFacts:
        """Read META; ABSENT where nothing answers to it.

        UNREADABLE where more than one thing does, or none of it can be read: it may announce anything.
        """
        self._latest = facts = self._load()
        return facts

    def latest(self) -> MetaFacts:
        """Return what the last `load` said: what the running attempt goes by, without reading META for each key."""
        return self._latest or self.load()

    def _load(self) -> MetaFacts:
        found = self._find()
        match found:
            case Missing(sought):
                return MetaFacts(MetaState.ABSENT, problem=f"no device found ({sought})")
            case Ambiguous(candidates, reason):
                return MetaFacts(MetaState.UNREADABLE, problem=f"{reason}: {', '.join(candidates)}")
            case Device():
                try:
                    return self._store(found).load()
                except MetaError as error:
                    return MetaFacts(MetaState.UNREADABLE, problem=error.cause)

    def repair(self) -> None:
        """Rewrite the bad or older copy from the valid one."""
        self.store().repair()

    def update_record(self, change: Callable[[NodeRecord], NodeRecord]) -> None:
        """Read our record, change it, write it."""
        self.store().update_record(change)

    def write_state_encryption(self, encryption: VolumeEncryption | None) -> None:
        """Write tag 9, or delete it."""
        self.store().write_state_encryption(encryption)

    def start_over(self, record: NodeRecord) -> None:
        """Let META say nothing but `record`."""
        self.store().start_over(record)

    def write_kms_access(self, kept: KeptAccess | None) -> None:
        """Write tag 0xE1, or delete it."""
        self.store().write_kms_access(kept)

    def store(self) -> AdvStore:
        """Return the store of the META that is there now; MetaError or AmbiguousDevice where there is not one."""
        location = self._settings.volume(META).location
        found = self._find()
        match found:
            case Missing() if isinstance(location, ByImage):
                return AdvStore(location.path, f"{location.path}.lock", create=True)
            case Missing(sought):
                raise MetaError(f"META is not there ({sought})", volume=META, hint="luksctl install DISK")
            case Ambiguous(candidates, reason):
                raise AmbiguousDevice(f"{reason}: {', '.join(candidates)}", volume=META)
            case Device():
                return self._store(found)

    def _find(self) -> Device | Missing | Ambiguous:
        return self._disks.find(META, self._settings.volume(META), timeout_s=0)

    def _store(self, device: Device) -> AdvStore:
        timeout_s = self._settings.timeouts.lock_s
        if device.image:
            return AdvStore(device.path, f"{device.path}.lock", lock_timeout_s=timeout_s)
        disk = device.disk or device.path
        if not self._disks.holds_lock_of(disk):
            return AdvStore(device.path, disk, lock_timeout_s=timeout_s)
        # While this process formats, it holds the disk's flock, which keeps every other writer of META out as well;
        # asking for it once more would wait for ourselves.
        lock_path = os.path.join(self._lock_dir, "META.lock")
        os.close(os.open(lock_path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        return AdvStore(device.path, lock_path, lock_timeout_s=timeout_s)
