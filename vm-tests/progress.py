"""How far the re-encryption of a guest's volumes is, seen from outside: that costs the guest nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from nodes import meta_facts
from rig import host
from rig.disk import Disk
from rig.errors import NoAnswer

from luksctl.model.config import META, META_SIZE_BYTES


def announced(disk: Disk) -> set[str]:
    """Return which volumes META announces something for."""
    meta = disk.read(disk.partition(META).offset_bytes, META_SIZE_BYTES)
    return {intent.volume for intent in meta_facts(meta).record.intents}


def done_bytes(disk: Disk, volume: str) -> int:
    """Return how much of the volume has the new volume key, by the first header copy."""
    text = disk.read(disk.partition(volume).offset_bytes + 4096, 12 * 1024).split(b"\0")[0]
    try:
        first: dict[str, Any] = json.loads(text)["segments"]["0"]
    except ValueError:  # it is being written just now
        return 0
    if first["size"] == "dynamic" or "in-reencryption" in first.get("flags", ()):
        return 0
    return int(first["size"])


def wait_until_ended(disk: Disk, timeout_s: float = 300) -> None:
    """Wait until nothing is announced any more."""
    wait_for(lambda: not announced(disk), timeout_s)


def wait_for(what: Callable[[], bool], timeout_s: float = 300) -> None:
    """Wait until `what` is true of a disk; NoAnswer when it never is."""
    end_s = time.monotonic() + timeout_s * host.patience()
    while not what():
        if time.monotonic() > end_s:
            raise NoAnswer(f"not true in {timeout_s} s")
        time.sleep(0.2)
