"""Guess which known word a misspelled one stands for."""

from __future__ import annotations

from collections.abc import Iterable

from luksctl.hints import Final

_LONGEST: Final = 40  # no known word is longer; keeps the table below small for any input


def _plain(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "")


def _distance(left: str, right: str) -> int:
    """Return the number of insertions, deletions and replacements between two words (Levenshtein)."""
    row = list(range(len(right) + 1))
    for above, letter in enumerate(left, start=1):
        corner, row[0] = row[0], above
        for column, other in enumerate(right, start=1):
            corner, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, corner + (letter != other))
    return row[-1]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the word of `known` that `word` most likely means, or None when none is near.

    Case, `-` and `_` do not count; a long word may be two letters off, a short one a single letter.
    """
    if len(word) > _LONGEST:
        return None
    plain = _plain(word)
    ranked = sorted((_distance(plain, _plain(choice)), choice) for choice in known)
    if not ranked:
        return None
    distance, choice = ranked[0]
    allowed = 0 if len(plain) < 3 else 1 if len(plain) < 7 else 2
    return choice if distance <= allowed else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the hint for a misspelled `word`, or None."""
    choice = nearest(word, known)
    return None if choice is None else f"did you mean {choice}?"


def path_problem(path: str) -> tuple[str, str | None] | None:
    """Return what is wrong with a path that has to begin at the root, and a hint; None where nothing is."""
    return None if path.startswith("/") else (f"{path!r} is not a path from the root", "write /etc/systemd/FILE")
