"""The seam of what seals: whoever holds the master key. A file is the first; a token or another service may follow."""

from __future__ import annotations

from luksctl.hints import Final, Protocol

# Keys are 32 bytes; what a node wants to keep here beside them has to be short.
LONGEST_PLAIN: Final = 1024


class NotSealedHere(Exception):
    """What was given is nothing that this backend sealed for that node; why stays untold."""


class Backend(Protocol):
    """Seals for a node what only that node gets back. DeviceError where the backend cannot be asked for now."""

    def seal(self, node: bytes, plain: memoryview) -> bytes:
        """Return `plain` sealed for the node with this identity; NotSealedHere for a length that is never sealed."""

    def unseal(self, node: bytes, sealed: memoryview, into: memoryview) -> int:
        """Write what was sealed for the node into LONGEST_PLAIN bytes, and return how many it is.

        NotSealedHere for everything else. The caller wipes `into`, whatever happens.
        """
