"""A recovery key as it grows under somebody's fingers: right groups stay, only the others are asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from types import TracebackType

from luksctl.errors import RecoveryKeyMistyped
from luksctl.hints import final
from luksctl.providers.recovery_form import ALPHABET, CHARACTERS, GROUP_CHARACTERS, GROUPS, homes_of, named, sort_out
from luksctl.providers.recovery_key import read_recovery_key
from luksctl.secret import Secret


@final
class TypedKey:
    """Collect a recovery key group by group; wiped by `with`."""

    def __init__(self) -> None:
        self._characters = Secret(CHARACTERS)
        self._missing = tuple(range(1, GROUPS + 1))

    def __enter__(self) -> TypedKey:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._characters.close()

    @property
    def missing(self) -> tuple[int, ...]:
        """Return the numbers of the groups that are still to be typed, in order."""
        return self._missing

    def take(self, typed: Secret) -> None:
        """Take what was typed for the missing groups, in their order; keep those that are right.

        RecoveryKeyMistyped names those that were not. Where a character is missing or too many, only the groups before
        it count.
        """
        with Secret(len(typed)) as cleaned, cleaned.view() as values:
            with typed.view() as characters:
                runs = sort_out(characters, values)
            count = sum(runs)
            wanted = self._missing[: max(1, (count + GROUP_CHARACTERS - 1) // GROUP_CHARACTERS)]
            whole = count == len(wanted) * GROUP_CHARACTERS
            right = self._right(values, wanted, count if whole else _sound(runs), whole=whole)
        self._missing = tuple(number for number in self._missing if number not in right)
        wrong = tuple(number for number in wanted if number not in right)
        if not count:
            raise RecoveryKeyMistyped("nothing was typed", groups=wrong[:1])
        if wrong:
            wrong = wrong if whole else wrong[:1]
            raise RecoveryKeyMistyped(f"{named(wrong)} {'is' if len(wrong) == 1 else 'are'} mistyped", groups=wrong)
        if not whole:
            raise RecoveryKeyMistyped("more was typed than was missing")

    def finish(self) -> Secret:
        """Return the canonical text; RecoveryKeyMistyped, and all groups missing again, if they are not of one key."""
        if self._missing:
            raise ValueError("groups are missing")
        self._missing = tuple(range(1, GROUPS + 1))
        return read_recovery_key(self._characters)

    def _right(self, values: memoryview, wanted: tuple[int, ...], count: int, *, whole: bool) -> set[int]:
        """Keep the groups among the first `count` characters that are right, and return their numbers."""
        right: set[int] = set()
        with self._characters.view() as kept:
            for index, number in enumerate(wanted[: count // GROUP_CHARACTERS]):
                start, place = index * GROUP_CHARACTERS, (number - 1) * GROUP_CHARACTERS
                if homes_of(values[start : start + GROUP_CHARACTERS], 1) == [number]:
                    right.add(number)
                    for offset in range(GROUP_CHARACTERS):
                        kept[place + offset] = ALPHABET[values[start + offset]]
                elif not whole:
                    break
        return right


def _sound(runs: Sequence[int]) -> int:
    """Return how many characters come before the first run that is not of whole groups; all of a single run."""
    if len(runs) == 1:
        return runs[0]
    return sum(takewhile(lambda run: run % GROUP_CHARACTERS == 0, runs))
