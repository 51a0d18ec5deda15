"""How many requests a peer may make: a bucket for each address, which fills again with time.

The buckets of all workers are in memory that was shared before the fork, so a peer has one of them, however many
connections it has to however many workers. A bucket is one number, the time at which it will be full (GCRA), and
nothing is locked between workers: of two requests of one peer that two workers judge at the very same moment, one may
not count.
"""

from __future__ import annotations

import mmap
import os
import threading
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

from luksctl.hints import Final, final

# Addresses that are remembered: those that asked last. A forgotten one begins with a full bucket.
_MOST_PEERS: Final = 65536
# Whoever has one IPv6 address has its whole network.
_PREFIX_BYTES: Final = 8
# A peer has one of so many places, so that looking for it is short; whose bucket is full, or will be first, makes room.
_PLACES: Final = 8
_NUMBER_BYTES: Final = 8
_TICKS: Final = 1_000_000_000
# The lowest bit of the number says that the last request was refused.
_REFUSED: Final = 1


class Verdict(Enum):
    """What becomes of a request; REFUSED_AGAIN: nothing of that peer was taken since the last refusal."""

    TAKEN = "taken"
    REFUSED = "refused"
    REFUSED_AGAIN = "refused again"


@final
class RateLimit:
    """`rate` requests a second after a burst of `burst`, for each IPv4 address and each IPv6 /64; rate 0: no limit.

    Shared with every process that is forked from the one that makes it.
    """

    def __init__(self, rate: float, burst: int, most_peers: int = _MOST_PEERS) -> None:
        self._step = 0 if rate <= 0 else max(2, int(_TICKS / rate))
        self._burst = self._step * burst
        self._sets = max(1, most_peers // _PLACES)
        memory = mmap.mmap(-1, 2 * self._sets * _PLACES * _NUMBER_BYTES)  # shared with children: the module's default
        numbers = memoryview(memory).cast("Q")
        # Whoever knew the places could have others forgotten.
        secret = os.urandom(16)
        self._places, self._full_at = numbers[: self._sets * _PLACES], numbers[self._sets * _PLACES :]
        self._name_of = lru_cache(maxsize=4096)(lambda address: _name(_peer(address), secret))
        self._lock = threading.Lock()

    def judge(self, address: str, now: float) -> Verdict:
        """Tell whether one more request from there is taken; `now` in seconds of a clock that all processes share."""
        if self._step == 0:
            return Verdict.TAKEN
        name, ticks = self._name_of(address), int(now * _TICKS) + 2
        with self._lock:
            place = self._place(name)
            number = self._full_at[place]
            full_at = max(number & ~_REFUSED, ticks) + self._step
            if full_at - ticks <= self._burst:
                self._full_at[place] = full_at & ~_REFUSED
                return Verdict.TAKEN
            self._full_at[place] = number | _REFUSED
        return Verdict.REFUSED_AGAIN if number & _REFUSED else Verdict.REFUSED

    def _place(self, name: int) -> int:
        """Return where the bucket of a peer is; a peer without one gets that of whom it matters least to forget."""
        first = name % self._sets * _PLACES
        mine = range(first, first + _PLACES)
        for place in mine:
            if self._places[place] == name:
                return place
        place = min(mine, key=self._full_at.__getitem__)
        self._full_at[place] = 0
        self._places[place] = name
        return place


def _name(peer: bytes, secret: bytes) -> int:
    """Return what a peer's bucket is found by; never 0, which nobody has."""
    return int.from_bytes(blake2b(peer, digest_size=_NUMBER_BYTES, key=secret).digest(), "big") or 1


def _peer(address: str) -> bytes:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address.encode()
    if isinstance(parsed, IPv6Address):
        return parsed.packed[:_PREFIX_BYTES] if parsed.ipv4_mapped is None else parsed.ipv4_mapped.packed
    return parsed.packed
