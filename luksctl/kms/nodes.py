"""The seam of the list of nodes: SQLite is the first, a database that several hosts share may follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from luksctl.hints import Protocol
from luksctl.model.kms import KnownNode, NodeState
from luksctl.value import frozen


@frozen
class Sighting:
    """A node that asked and is not allowed: where from, with which certificate, and when."""

    address: str
    certificate: str | None
    at: int


class NodeStore(Protocol):
    """The list. Every method may be called from any thread, and raises DeviceError where the store does not answer.

    What a method that writes has done is on the medium when it returns.
    """

    def find(self, identity: bytes) -> KnownNode | None:
        """Return what is known of a node."""

    def recall(self, identity: bytes) -> KnownNode | None:
        """Return what `find` said of a node before, where it is certain that it would say the same; else None."""

    def every(self) -> tuple[KnownNode, ...]:
        """Return all nodes, oldest first."""

    def counts(self) -> dict[NodeState, int]:
        """Return how many nodes there are in each state."""

    def enrol(self, identity: bytes, sighting: Sighting) -> bool:
        """Allow a node that is unknown or pending; False where it was revoked, or has another certificate by now."""

    def bind(self, identity: bytes, certificate: str, at: int) -> bool:
        """Bind a certificate to a node that has none; False where another one is bound to it by now."""

    def note(self, sightings: Mapping[bytes, Sighting], most: int) -> int:
        """Note unknown nodes as pending while there are less than `most` such; return how many were left out."""

    def seen(self, times: Mapping[bytes, int]) -> None:
        """Note when nodes were last answered."""

    def change(
        self, identities: Sequence[bytes], state: NodeState, at: int, *, note: str | None, new_certificate: bool
    ) -> None:
        """Give nodes a state, all of them or none; `new_certificate` frees them of the one that is bound to them."""

    def close(self) -> None:
        """Let go of it."""
