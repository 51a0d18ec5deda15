"""When each keyslot was last proven: `checked.json` in STATE, beside the config. It holds no secret.

Never in the header: a check writes nothing there, and neither does a boot that finds everything in order. Whoever
lost the file knows no more than before the first check, so what cannot be understood counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence

from luksctl.hints import Any, Final
from luksctl.model.header import LuksHeader
from luksctl.node.files import read_file, replace_file
from luksctl.value import frozen, replace

FILE_NAME: Final = "checked.json"
_VERSION: Final = 1


@frozen
class SlotRecord:
    """How one slot was found when its key was last tried; times are seconds since the epoch.

    `digest` tells the slot from one that was written since, and from that of another header. `proven_s` is None where
    no key was ever seen to open this very slot.
    """

    volume: str
    slot: int
    kind: str
    digest: str
    outcome: str
    tried_s: int
    proven_s: int | None


def slot_digest(header: LuksHeader, slot: int) -> str:
    """Return what changes with every write of the keyslot (it has a random salt), and tells nothing about its key."""
    described = json.loads(header.json)["keyslots"].get(str(slot))
    text = json.dumps([header.uuid, slot, described], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def read_checked(directory: str) -> tuple[SlotRecord, ...]:
    """Return what the file in STATE's `directory` says; nothing where it is not there or cannot be understood."""
    try:
        text = read_file(os.path.join(directory, FILE_NAME))
        document = None if text is None else json.loads(text)
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            return ()
        return tuple(_parse(entry) for entry in document["slots"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ()


def note_checked(directory: str, volumes: Sequence[str], found: Sequence[SlotRecord]) -> str:
    """Replace what is known about `volumes` by `found`, and return the path of the file.

    A slot that did not open, and is still the one that did, keeps the time at which it did. Cut: the old file or the
    new one. Of two checks that end at the same moment one may be forgotten. Raises OSError.
    """
    path = os.path.join(directory, FILE_NAME)
    before = read_checked(directory)
    proven = {(entry.volume, entry.slot, entry.digest): entry.proven_s for entry in before}
    others = tuple(entry for entry in before if entry.volume not in volumes)
    kept = tuple(
        replace(entry, proven_s=entry.proven_s or proven.get((entry.volume, entry.slot, entry.digest)))
        for entry in found
    )
    document = {"version": _VERSION, "slots": [_fields(entry) for entry in (*others, *kept)]}
    replace_file(path, json.dumps(document, indent=2).encode() + b"\n")
    return path


def timestamp(seconds: int) -> str:
    """Return seconds since the epoch as people and JSON readers write it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _fields(entry: SlotRecord) -> dict[str, object]:
    return {
        "volume": entry.volume,
        "slot": entry.slot,
        "kind": entry.kind,
        "digest": entry.digest,
        "outcome": entry.outcome,
        "triedAt": timestamp(entry.tried_s),
        "provenAt": None if entry.proven_s is None else timestamp(entry.proven_s),
    }


def _parse(entry: dict[str, Any]) -> SlotRecord:
    proven = entry["provenAt"]
    return SlotRecord(
        volume=str(entry["volume"]),
        slot=int(entry["slot"]),
        kind=str(entry["kind"]),
        digest=str(entry["digest"]),
        outcome=str(entry["outcome"]),
        tried_s=_seconds(entry["triedAt"]),
        proven_s=None if proven is None else _seconds(proven),
    )


def _seconds(text: str) -> int:
    from datetime import datetime  # noqa: PLC0415  # few verbs ask, and every status loads this module

    return int(datetime.fromisoformat(text).timestamp())
