"""A peer's bucket: how much it holds, how it fills, and who shares it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.kms.limit import RateLimit, Verdict


def _takes(limit: RateLimit, address: str, now: float) -> bool:
    return limit.judge(address, now) is Verdict.TAKEN


def test_a_burst_is_taken_and_then_the_rate() -> None:
    """Three at once, and one each half a second."""
    limit = RateLimit(rate=2.0, burst=3)
    assert [_takes(limit, "10.0.0.1", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert [_takes(limit, "10.0.0.1", at) for at in (0.4, 0.5, 0.6, 1.1)] == [False, True, False, True]


def test_a_bucket_never_holds_more_than_the_burst() -> None:
    """However long nobody asked."""
    limit = RateLimit(rate=2.0, burst=3)
    assert _takes(limit, "10.0.0.1", 0.0)
    assert [_takes(limit, "10.0.0.1", 1e6) for _ in range(4)] == [True] * 3 + [False]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("fd00::1", "fd00::ffff:1", True),
        ("fd00:0:0:1::1", "fd00:0:0:2::1", False),
        ("unix", "unix", True),
    ],
)
def test_who_shares_a_bucket(one: str, other: str, shared: bool) -> None:  # noqa: FBT001
    """Each IPv4 address has its own, and each network of 64 bits of IPv6."""
    limit = RateLimit(rate=0.001, burst=1)
    assert _takes(limit, one, 0.0)
    assert _takes(limit, other, 0.0) is not shared


def test_no_rate_is_no_limit() -> None:
    """Zero takes everything."""
    limit = RateLimit(rate=0.0, burst=1)
    assert all(_takes(limit, "10.0.0.1", 0.0) for _ in range(1000))


def test_memory_is_bounded() -> None:
    """Of more peers than fit, those whose buckets are full, or will be first, are forgotten, and begin anew."""
    limit = RateLimit(rate=0.001, burst=1, most_peers=8)
    for number in range(100):
        assert _takes(limit, f"10.0.0.{number}", float(number))
    assert not any(_takes(limit, f"10.0.0.{number}", 100.0) for number in range(92, 100))
    assert _takes(limit, "10.0.0.0", 100.0)


def test_processes_share_the_buckets() -> None:
    """What others have taken is gone for all of them, also for one that is forked later."""
    limit = RateLimit(rate=0.001, burst=100)

    def taken_by_another() -> int:
        child = _forked(lambda: sum(_takes(limit, "10.0.0.1", 0.0) for _ in range(30)))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert [taken_by_another() for _ in range(3)] == [30, 30, 30]
    assert sum(_takes(limit, "10.0.0.1", 0.0) for _ in range(30)) == 10
    assert taken_by_another() == 0
    assert _takes(limit, "10.0.0.2", 0.0)


def _forked(work: Callable[[], int]) -> int:
    child = os.fork()
    if child:
        return child
    os._exit(work())


@given(st.lists(st.floats(0, 10), max_size=60))
def test_never_more_than_burst_and_rate(pauses: list[float]) -> None:
    """Whenever requests come: of those up to a time, no more than the burst and what flowed in."""
    limit, now, taken = RateLimit(rate=1.5, burst=4), 0.0, 0
    for pause in pauses:
        now += pause
        taken += _takes(limit, "10.0.0.1", now)
        assert taken <= 4 + 1.5 * now + 1e-6


def test_only_the_first_refusal_is_one_to_tell() -> None:
    """Until something was taken again: what is told is never more than what is taken."""
    limit = RateLimit(rate=1.0, burst=1)
    verdicts = [limit.judge("10.0.0.1", at) for at in (0.0, 0.1, 0.2, 0.3, 1.1, 1.2, 1.3)]
    refused, again = Verdict.REFUSED, Verdict.REFUSED_AGAIN
    assert verdicts == [Verdict.TAKEN, refused, again, again, Verdict.TAKEN, refused, again]
