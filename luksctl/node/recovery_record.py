"""Which recovery keys somebody has proven to hold: `recovery.json` in STATE, beside the config. It holds no secret.

Never in the header, as `checked.json`: to prove a key writes nothing there. What cannot be understood counts as not
there: then the keys count as never verified, which costs a warning.
"""

from __future__ import annotations

import json
import os

from luksctl.hints import Any, Final
from luksctl.model.header import LuksHeader
from luksctl.node.checked import slot_digest, timestamp
from luksctl.node.files import read_file, replace_file
from luksctl.value import frozen

FILE_NAME: Final = "recovery.json"
_VERSION: Final = 1


@frozen
class Verified:
    """A recovery key opened its slot. `digest` tells the slot from another key that came to have its number."""

    volume: str
    header_uuid: str
    slot: int
    digest: str
    verified_at: str


def read_verified(directory: str) -> tuple[Verified, ...]:
    """Return what the file in STATE's `directory` says; nothing where it is not there or cannot be understood."""
    try:
        text = read_file(os.path.join(directory, FILE_NAME))
        document = None if text is None else json.loads(text)
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            return ()
        return tuple(_parse(entry) for entry in document["verified"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ()


def verified_at(directory: str | None, volume: str, header: LuksHeader, slot: int) -> str | None:
    """Return when the key in `slot`, as it is now, was last proven (RFC 3339), or None; None too without a STATE."""
    if directory is None or header.keyslot(slot) is None:
        return None
    digest = slot_digest(header, slot)
    found = (entry for entry in read_verified(directory) if (entry.volume, entry.slot) == (volume, slot))
    return next((entry.verified_at for entry in found if entry.digest == digest), None)


def note_verified(directory: str, volume: str, header: LuksHeader, slot: int, now_s: int) -> str:
    """Note that the key in `slot` was proven, and return the path of the file.

    Slots of `volume` that are not what they were when they were noted are left out. Cut: the old file or the new one.
    Raises OSError.
    """
    path = os.path.join(directory, FILE_NAME)
    there = {entry.number: slot_digest(header, entry.number) for entry in header.keyslots}
    kept = [
        entry
        for entry in read_verified(directory)
        if entry.volume != volume or (entry.slot != slot and there.get(entry.slot) == entry.digest)
    ]
    kept.append(Verified(volume, header.uuid, slot, there[slot], timestamp(now_s)))
    document = {"version": _VERSION, "verified": [_fields(entry) for entry in kept]}
    replace_file(path, json.dumps(document, indent=2).encode() + b"\n")
    return path


def _fields(entry: Verified) -> dict[str, object]:
    return {
        "volume": entry.volume,
        "headerUUID": entry.header_uuid,
        "slot": entry.slot,
        "digest": entry.digest,
        "verifiedAt": entry.verified_at,
    }


def _parse(entry: dict[str, Any]) -> Verified:
    return Verified(
        volume=str(entry["volume"]),
        header_uuid=str(entry["headerUUID"]),
        slot=int(entry["slot"]),
        digest=str(entry["digest"]),
        verified_at=str(entry["verifiedAt"]),
    )
