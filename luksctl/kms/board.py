"""Numbers that several processes count and one shows: a row of memory for each process, shared since before the fork.

Only its own process writes to a row, so nothing is locked between processes, and what a killed worker counted stays.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left

from luksctl.hints import Final, final
from luksctl.kms.admission import Outcome, Verb

# Upper bounds in seconds of the classes in which durations are counted; above the last one is one more.
BOUNDS_S: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_VERBS: Final = tuple(Verb)
_OUTCOMES: Final = tuple(Outcome)
_NUMBERS: Final = {outcome: number for number, outcome in enumerate(_OUTCOMES)}
_REQUESTS: Final = 0
_BUCKETS: Final = _REQUESTS + len(_VERBS) * len(_OUTCOMES)
_SUMS: Final = _BUCKETS + len(_VERBS) * (len(BOUNDS_S) + 1)
_AUDIT_FAILURES: Final = _SUMS + len(_VERBS)
_DROPPED: Final = _AUDIT_FAILURES + 1
_STARTS: Final = _DROPPED + 1
_READY: Final = _STARTS + 1
_KEY_VERSION: Final = _READY + 1
_ROW: Final = _KEY_VERSION + 1
_NUMBER_BYTES: Final = 8


@final
class Row:
    """What one process counts; its threads share it."""

    def __init__(self, numbers: memoryview) -> None:
        self._numbers = numbers
        self._lock = threading.Lock()

    def request(self, verb: Verb, outcome: Outcome, took_s: float) -> None:
        """Count one request."""
        at = _VERBS.index(verb)
        with self._lock:
            self._numbers[_REQUESTS + at * len(_OUTCOMES) + _NUMBERS[outcome]] += 1
            self._numbers[_BUCKETS + at * (len(BOUNDS_S) + 1) + bisect_left(BOUNDS_S, took_s)] += 1
            self._numbers[_SUMS + at] += int(took_s * 1e9)

    def audit_failed(self) -> None:
        """Count a line that could not be written."""
        self._add(_AUDIT_FAILURES, 1)

    def dropped(self, count: int) -> None:
        """Count unknown nodes that were not noted, because too many are."""
        self._add(_DROPPED, count)

    def started(self) -> None:
        """Count a start of this process."""
        self._add(_STARTS, 1)

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001  # a state, and nothing else
        """Say whether the process answers."""
        with self._lock:
            self._numbers[_READY] = int(ready)

    def set_key_version(self, version: int) -> None:
        """Say by which version of the master key the process seals."""
        with self._lock:
            self._numbers[_KEY_VERSION] = version

    def _add(self, place: int, count: int) -> None:
        with self._lock:
            self._numbers[place] += count


@final
class Board:
    """All rows."""

    def __init__(self, rows: int) -> None:
        self._memory = mmap.mmap(-1, rows * _ROW * _NUMBER_BYTES)  # shared with children: the default of the module
        self._rows = rows

    def row(self, number: int) -> Row:
        """Return the row of a process."""
        numbers = memoryview(self._memory).cast("Q")
        return Row(numbers[number * _ROW : (number + 1) * _ROW])

    def requests(self) -> dict[tuple[Verb, Outcome], int]:
        """Return how many requests ended how."""
        totals = self._totals()
        return {
            (verb, outcome): totals[_REQUESTS + at * len(_OUTCOMES) + number]
            for at, verb in enumerate(_VERBS)
            for number, outcome in enumerate(_OUTCOMES)
        }

    def durations(self, verb: Verb) -> tuple[list[int], float]:
        """Return how many requests took how long (one number for each bound, and one above), and their sum in s."""
        totals, at, width = self._totals(), _VERBS.index(verb), len(BOUNDS_S) + 1
        start = _BUCKETS + at * width
        return totals[start : start + width], totals[_SUMS + at] / 1e9

    @property
    def audit_failures(self) -> int:
        """Return how many lines of the audit log could not be written."""
        return self._totals()[_AUDIT_FAILURES]

    @property
    def dropped_total(self) -> int:
        """Return how many unknown nodes were not noted."""
        return self._totals()[_DROPPED]

    @property
    def starts(self) -> int:
        """Return how often workers were started."""
        return self._totals()[_STARTS]

    @property
    def ready(self) -> int:
        """Return how many workers answer."""
        return self._totals()[_READY]

    @property
    def key_version(self) -> int:
        """Return the oldest version of the master key by which any worker seals; 0 where none has one."""
        numbers = memoryview(self._memory).cast("Q")
        return min(filter(None, (numbers[row * _ROW + _KEY_VERSION] for row in range(self._rows))), default=0)

    def _totals(self) -> list[int]:
        numbers = memoryview(self._memory).cast("Q")
        return [sum(numbers[row * _ROW + place] for row in range(self._rows)) for place in range(_ROW)]
