"""What the node remembers of tpm keys that were sealed anew: `sealed-before.json` in STATE, and a file for this boot.

So that none goes back and forth between two states of the machine by itself, and none is sealed anew twice in a boot.
Neither file holds a secret. A boot seals no key anew unless STATE is mounted, so the first one is there to be asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from luksctl.errors import DeviceError
from luksctl.hints import Final
from luksctl.model.desired import DesiredVolume
from luksctl.model.sealing import Resealing, Sealing
from luksctl.node.files import read_file, replace_file
from luksctl.node.node import Node
from luksctl.node.sources import state_directory
from luksctl.value import replace

FILE_NAME: Final = "sealed-before.json"
_VERSION: Final = 1
# Each entry is some hundred bytes; firmware is not updated that often.
_REMEMBERED: Final = 256
_MISUNDERSTOOD: Final = (ValueError, TypeError, LookupError, RecursionError)
_UNREADABLE: Final = (OSError, *_MISUNDERSTOOD)


def with_resealing(node: Node, wanted: DesiredVolume, *, asked: bool) -> DesiredVolume:
    """Return the wish with what is known about its tpm keys; `asked`: a person runs this."""
    volume = wanted.volume
    directory = state_directory(node)
    if directory is None:
        # A person may decide all the same.
        barred = None if asked else "STATE is not mounted, and nothing else remembers what was sealed before"
        return replace(wanted, resealing=Resealing(asked, barred))
    try:
        entries = _read(directory)
    except _UNREADABLE:
        barred = f"{directory}/{FILE_NAME} cannot be read, so it may be going back and forth"
        return replace(wanted, resealing=Resealing(asked, barred))
    done = not asked and os.path.exists(_marker(node, volume))
    before = tuple((slot, policy) for name, slot, policy in entries if name == volume)
    return replace(wanted, resealing=Resealing(asked, "that was done once in this boot" if done else None, before))


def remember(node: Node, volume: str, sealing: Sequence[Sealing]) -> None:
    """Tell which keys of `volume` are about to be replaced, and remember what they were bound to; DeviceError.

    Before the first step: whenever the power goes, none goes back there by itself. Cut: remembered or not, and nothing
    was replaced yet. A file that cannot be understood begins anew; only who named the slot comes this far with one.
    """
    directory = state_directory(node)
    try:
        marker = _marker(node, volume)
        os.makedirs(os.path.dirname(marker), mode=0o755, exist_ok=True)
        replace_file(marker, b"")
        if directory is not None:
            _add(directory, volume, sealing)
    except OSError as error:
        cause = f"what the key was bound to cannot be noted ({error.strerror}), so none is sealed anew"
        raise DeviceError(cause, volume=volume, hint="luksctl doctor") from error
    for entry in sealing:
        node.tell(f"{volume}, slot {entry.slot}: sealed anew, because {entry.cause}")


def _add(directory: str, volume: str, sealing: Sequence[Sealing]) -> None:
    try:
        found = _read(directory)
    except _MISUNDERSTOOD:
        found = []
    left = [(volume, entry.slot, entry.vouching.was) for entry in sealing if entry.vouching.was is not None]
    found += [entry for entry in left if entry not in found]
    document = {
        "version": _VERSION,
        "sealed": [{"volume": name, "slot": slot, "policy": policy} for name, slot, policy in found[-_REMEMBERED:]],
    }
    replace_file(os.path.join(directory, FILE_NAME), json.dumps(document, indent=2).encode() + b"\n")


def _marker(node: Node, volume: str) -> str:
    return os.path.join(node.paths.run_dir, "sealed-anew", volume)


def _read(directory: str) -> list[tuple[str, int, str]]:
    text = read_file(os.path.join(directory, FILE_NAME))
    if text is None:
        return []
    document = json.loads(text)
    if document["version"] != _VERSION:
        raise ValueError("another version")
    return [(str(entry["volume"]), int(entry["slot"]), str(entry["policy"])) for entry in document["sealed"]]
