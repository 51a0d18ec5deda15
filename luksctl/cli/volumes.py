"""Names of volumes on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from luksctl.cli.parser import split_words
from luksctl.errors import UsageError
from luksctl.hints import Final
from luksctl.model.config import EPHEMERAL, STATE

MANAGED: Final = (STATE, EPHEMERAL)


def volumes_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return the volumes that `words` name, in the order of a boot, all of them for none; UsageError for another."""
    named = split_words(words)
    for word in named:
        if word not in MANAGED:
            raise UsageError(f"unknown volume {word!r}", hint=f"the volumes are {' and '.join(MANAGED)}")
    return tuple(volume for volume in MANAGED if not named or volume in named)


def volume_of(word: str) -> str:
    """Return the one volume that `word` names."""
    return volumes_of((word,))[0]
