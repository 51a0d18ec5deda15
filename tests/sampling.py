"""How much of a long list of faults a test run takes: a sample by SEED, or with FAULTS=all everything."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def everything() -> bool:
    """Tell whether all faults are asked for (`make faults`)."""
    return os.environ.get("FAULTS") == "all"


def sampled(items: Sequence[Item], share: int, *, salt: str = "") -> list[Item]:
    """Return one in `share` of `items`, at least one, in order; other ones for another SEED or `salt`."""
    if everything() or not items:
        return list(items)
    chance = random.Random(os.environ.get("SEED", "0") + salt)  # noqa: S311  # a sample of faults is no secret
    count = max(1, len(items) // share)
    return [items[number] for number in sorted(chance.sample(range(len(items)), count))]
