"""Guesses at misspelled words."""

from __future__ import annotations

import pytest

from luksctl.config.spelling import did_you_mean, nearest

KNOWN = ("slot", "static", "nodeID", "kms", "tpm", "lockToState")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lockToSTATE", "lockToState"),
        ("lock-to-state", "lockToState"),
        ("nodeid", "nodeID"),
        ("slots", "slot"),
        ("statc", "static"),
        ("ksm", None),
        ("", None),
        ("x", None),
        ("endpoint", None),
        ("lockToState" * 1000, None),
    ],
)
def test_nearest(word: str, meant: str | None) -> None:
    """Case and hyphens do not count, few letters may differ, and a far word is no guess."""
    assert nearest(word, KNOWN) == meant


def test_no_known_words() -> None:
    """Nothing known, nothing guessed."""
    assert nearest("a", ()) is None
    assert did_you_mean("a", ()) is None
