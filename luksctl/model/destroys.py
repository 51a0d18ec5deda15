"""What a step destroys: what plans are judged by, and what their readers are warned of."""

from __future__ import annotations

from enum import StrEnum


class Destroys(StrEnum):
    """What is gone for good after a step."""

    NOTHING = "nothing"
    KEYSLOT = "keyslot"
    DATA = "data"
