"""How many requests a peer may make: a bucket for each address, which fills again with time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from enum import Enum
from ipaddress import IPv6Address, ip_address

from luksctl.hints import Final, final

# Addresses that are remembered: those that asked last. A forgotten one begins with a full bucket.
_MOST_PEERS: Final = 65536
# Whoever has one IPv6 address has its whole network.
_PREFIX_BYTES: Final = 8


class Verdict(Enum):
    """What becomes of a request; REFUSED_AGAIN: nothing of that peer was taken since the last refusal."""

    TAKEN = "taken"
    REFUSED = "refused"
    REFUSED_AGAIN = "refused again"


@final
class RateLimit:
    """`rate` requests a second after a burst of `burst`, for each IPv4 address and each IPv6 /64; rate 0: no limit."""

    def __init__(self, rate: float, burst: int, most_peers: int = _MOST_PEERS) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._most_peers = most_peers
        self._buckets: OrderedDict[bytes | str, tuple[float, float, Verdict]] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, address: str, now: float) -> Verdict:
        """Tell whether one more request from there is taken; `now` in seconds of any clock that never goes back."""
        if self._rate <= 0:
            return Verdict.TAKEN
        peer = _peer(address)
        with self._lock:
            level, at, last = self._buckets.pop(peer, (self._burst, now, Verdict.TAKEN))
            level = min(self._burst, level + (now - at) * self._rate)
            if level >= 1:
                level, verdict = level - 1, Verdict.TAKEN
            else:
                verdict = Verdict.REFUSED if last is Verdict.TAKEN else Verdict.REFUSED_AGAIN
            self._buckets[peer] = (level, now, verdict)
            if len(self._buckets) > self._most_peers:
                self._buckets.popitem(last=False)
        return verdict


def _peer(address: str) -> bytes | str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return parsed.packed[:_PREFIX_BYTES] if parsed.ipv4_mapped is None else parsed.ipv4_mapped.packed
    return parsed.packed
