"""The Disks port: devices of this machine and what is on them, put together from the modules beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from luksctl.devices.find import Finder, same_disk
from luksctl.devices.locks import device_lock, volume_lock
from luksctl.devices.mapping import in_use, mapping
from luksctl.devices.medium import is_zero, open_medium, size_of
from luksctl.devices.probing import SignatureProbe
from luksctl.devices.tree import BlockTree
from luksctl.errors import DeviceError
from luksctl.hints import final
from luksctl.model.config import ByLabel, Filesystem, Settings, VolumeSettings
from luksctl.model.header import HeaderCopies
from luksctl.model.observed import Ambiguous, Mapping, Missing
from luksctl.model.probe import Device, Hardware, Range, Signature
from luksctl.value import replace

Pread = Callable[[int, int], bytes]
ReadCopies = Callable[[Pread, int], HeaderCopies]


@final
class SystemDisks:
    """Devices of this machine; `read_copies` checks LUKS headers, `probe` is libblkid's."""

    def __init__(  # what a port is joined from
        self,
        settings: Settings,
        tree: BlockTree,
        finder: Finder,
        *,
        read_copies: ReadCopies,
        probe: SignatureProbe,
        run_dir: str,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._tree = tree
        self._finder = finder
        self._read_copies = read_copies
        self._probe = probe
        self._run_dir = run_dir
        self._tell = tell
        self._locked_disks: set[str] = set()

    def find(self, volume: str, settings: VolumeSettings, *, timeout_s: float) -> Device | Missing | Ambiguous:
        """Find the device of `volume`, waiting for it up to `timeout_s`.

        Volumes sought by label alone must lie on one disk; if they do not, none of them is taken.
        """
        found = self._finder.find(settings.location, timeout_s=timeout_s)
        if not isinstance(found, Device) or not _by_label_alone(settings):
            return found
        devices = {volume: found}
        for name, others in self._settings.volumes:
            if name != volume and _by_label_alone(others):
                other = self._finder.find(others.location, timeout_s=0)
                if isinstance(other, Device):
                    devices[name] = other
        return same_disk(devices) or found

    def header_copies(self, device: Device) -> HeaderCopies:
        """Read and check both LUKS header copies on the medium."""
        with open_medium(device.header_path) as medium:
            return self._read_copies(medium.read, medium.size_bytes if device.header else device.size_bytes)

    def signature(self, path: str) -> Signature | None:
        """Return what libblkid finds, or None for nothing."""
        return self._probe(path)

    def is_zero(self, device: Device) -> bool:
        """Tell whether the head and the tail that define Blank read as zeros."""
        return is_zero(device.path, device.size_bytes)

    def in_use(self, device: Device) -> str | None:
        """Return who holds the device, or None."""
        return in_use(device, self._tree)

    def mapping(self, mapped_name: str) -> Mapping | None:
        """Return the active mapping of that name with its backing device and what is inside, or None."""
        found = mapping(mapped_name, self._tree)
        if found is None:
            return None
        try:
            return replace(found, signature=self._probe(found.path))
        except DeviceError as error:
            return replace(found, problem=error.cause)

    def hot_zone(self, mapped_name: str) -> str | None:
        """Return the name of the mapping that a re-encryption has for its hot zone below `mapped_name`, or None."""
        from luksctl.devices.hot_zone import hot_zone  # noqa: PLC0415  # as erase_head

        return hot_zone(mapped_name, self._tree)

    def fail_hot_zone(self, hot_zone_name: str) -> None:
        """Let what waits for the hot zone of a run that broke off fail."""
        from luksctl.devices.hot_zone import fail_hot_zone  # noqa: PLC0415  # as erase_head

        fail_hot_zone(hot_zone_name, self._tree)

    @contextmanager
    def format_lock(self, device: Device) -> Iterator[None]:
        """Hold the whole disk's flock around probe, format and mkfs; Busy after the lock timeout."""
        with device_lock(device, timeout_s=self._settings.timeouts.lock_s):
            self._locked_disks.add(device.disk)
            try:
                yield
            finally:
                self._locked_disks.discard(device.disk)

    def holds_lock_of(self, disk: str) -> bool:
        """Tell whether this object holds the flock of `disk`: whoever takes it again would wait for us."""
        return disk in self._locked_disks

    def volume_lock(self, volume: str) -> AbstractContextManager[None]:
        """Hold our own lock of the volume; Busy after the lock timeout."""
        return volume_lock(volume, timeout_s=self._settings.timeouts.lock_s, directory=self._run_dir)

    def erase_head(self, device: Device) -> None:
        """Zero the bytes at the head that Blank asks about, and sync."""
        from luksctl.devices.erase import erase_head  # noqa: PLC0415  # no converged boot does; its start is timed

        erase_head(device.path)

    def erase(self, device: Device, passes: tuple[tuple[Range, ...], ...], *, exclusive: bool) -> str:
        """Write zeros over the ranges, sync after each pass, read all of them back; return how that was done."""
        from luksctl.devices.erase import erase_proven  # noqa: PLC0415  # as erase_head

        return erase_proven(device.path, passes, exclusive=exclusive)

    def overwrite(self, device: Device, position_bytes: int) -> Iterator[int]:
        """Write zeros to the end; yield the position up to which they were synced and read back."""
        from luksctl.devices.overwriting import overwrite  # noqa: PLC0415  # as erase_head

        yield from overwrite(device, position_bytes, self._tell)

    def discard(self, device: Device) -> str | None:
        """Tell the device that all of it is free; return why it was not told, or None where it was."""
        from luksctl.devices.overwriting import discard  # noqa: PLC0415  # as erase_head

        return discard(device, self._tell)

    def why_untouchable(self, device: Device) -> str | None:
        """Say why the device may not be erased in any case, or None."""
        from luksctl.devices.untouchable import why_untouchable  # noqa: PLC0415  # as erase_head

        return why_untouchable(device, self._tree)

    def hardware(self, device: Device) -> Hardware:
        """Return what the kernel knows of the disk below the device."""
        from luksctl.devices.untouchable import hardware  # noqa: PLC0415  # as erase_head

        return hardware(device, self._tree)

    def make_filesystem(
        self, path: str, filesystem: Filesystem, label: str, *, uuid: str | None, size_bytes: int
    ) -> None:
        """Make the filesystem within `size_bytes` (0: all of it) and sync. Cut: a torn filesystem."""
        from luksctl.devices.mkfs import make_filesystem  # noqa: PLC0415  # as erase_head

        make_filesystem(
            path,
            filesystem,
            label,
            uuid=uuid,
            size_bytes=size_bytes or size_of(path),
            signature=self._probe,
            progress=lambda elapsed_s: self._tell(f"mkfs has been running for {elapsed_s:.0f} s"),
        )


def _by_label_alone(settings: VolumeSettings) -> bool:
    return isinstance(settings.location, ByLabel) and settings.location.disk is None
