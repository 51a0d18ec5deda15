"""The seam of what seals: whoever holds the master key. A file is the first; a token or another service may follow."""

from __future__ import annotations

from luksctl.hints import Protocol
from luksctl.secret import Secret


class NotSealedHere(Exception):
    """What was given is nothing that this backend sealed for that node; why stays untold."""


class Backend(Protocol):
    """Seals for a node what only that node gets back. DeviceError where the backend cannot be asked for now."""

    @property
    def longest_plain(self) -> int:
        """Return how many bytes can be sealed at most."""

    def seal(self, node: bytes, plain: memoryview) -> bytes:
        """Return `plain` sealed for the node with this identity; NotSealedHere for a length that is never sealed."""

    def unseal(self, node: bytes, sealed: memoryview) -> Secret:
        """Return what was sealed for the node; NotSealedHere for everything else."""
