"""What devices/ needs of libblkid, as types: wiring gives it the face that cryptsetup/ has of that library."""

from __future__ import annotations

from luksctl.hints import Protocol
from luksctl.model.probe import PartitionEntry, Signature


class SignatureProbe(Protocol):
    """Look for filesystems, LUKS headers and partition tables."""

    def __call__(self, path: str, /) -> Signature | None:
        """Return what is on the device or image file, or None for nothing; DeviceError where it cannot be read."""


class PartitionListing(Protocol):
    """Read the GPT of a disk or image file."""

    def __call__(self, path: str, /) -> tuple[PartitionEntry, ...]:
        """Return the entries in order of number, () without a GPT; DeviceError where it cannot be read."""
