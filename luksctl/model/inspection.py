"""What a run that holds the volume key found out about each configured key; with it `plan_sync` decides."""

from __future__ import annotations

from enum import StrEnum

from luksctl.model.bookkeeping import Bookkeeping
from luksctl.model.config import ConfiguredKey
from luksctl.model.sealing import Vouching
from luksctl.value import frozen


class KeyState(StrEnum):
    """How a configured key and its slot stand to each other."""

    IN_SYNC = "in sync"  # the fingerprint of its slot matches; the slot was not tried
    PROVEN = "proven"  # it opened its slot in this run
    MISSING = "missing"  # there is no such slot
    DIFFERS = "differs"  # the slot is ours, and the key does not open it, or not as the config says
    BLOCKED = "blocked"  # the slot, or the token of its number, is somebody else's
    UNTRIED = "not tried"  # only a real try could tell, and none was wanted
    UNAVAILABLE = "unavailable"  # its provider cannot say now, so nothing is known
    LOST = "lost"  # its provider gives it to nobody any more, or it is gone: another one would be an enrolment


@frozen
class KeyFinding:
    """One configured key. `noted`: the bookkeeping has the fingerprint that slot and key have now.

    `spare` is the spare announced for its slot that the key opened. `problem` says why a key is BLOCKED, UNAVAILABLE
    or LOST, and `vouching` what its provider says of another one in its place.
    """

    key: ConfiguredKey
    state: KeyState
    noted: bool = False
    spare: int | None = None
    problem: str | None = None
    vouching: Vouching | None = None

    @property
    def works(self) -> bool:
        """Tell whether the slot holds this key, by trial or by fingerprint."""
        return self.state in (KeyState.IN_SYNC, KeyState.PROVEN)


@frozen
class Inspection:
    """All configured keys of one volume. `books` None: nobody adopted it, or its bookkeeping does not verify.

    `opener` is the key that opened the volume in this run: others may have been tried since, with what it opened.
    """

    books: Bookkeeping | None
    findings: tuple[KeyFinding, ...] = ()
    problem: str | None = None
    opener: ConfiguredKey | None = None
