"""What the node remembers of tpm keys that were sealed anew: `sealed-before.json` in STATE, and a file for this boot.

So that none goes back and forth between two states of the machine by itself, and none is sealed anew twice in a boot.
Neither file holds a secret. A boot seals no key anew unless STATE is mounted, so the first one is there to be asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

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


def with_resealing(node: Node, wanted: DesiredVolume, *, asked: bool) -> DesiredVolume:
    """Return the wish with what is known about its tpm keys; `asked`: a person runs this."""
    volume = wanted.volume
    directory = state_directory(node)
    if directory is None:
        # Nothing is remembered without STATE, so nobody but a person may decide.
        return replace(wanted, resealing=Resealing(asked=asked, done=True))
    try:
        entries = _read(directory)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        # Not knowing what was before, nothing is done that cannot be told from going back and forth.
        node.tell(f"{directory}/{FILE_NAME} cannot be understood ({type(error).__name__}): no tpm key is sealed anew")
        return replace(wanted, resealing=Resealing(asked=False, done=True))
    before = tuple((slot, policy) for name, slot, policy in entries if name == volume)
    return replace(wanted, resealing=Resealing(asked, os.path.exists(_marker(node, volume)), before))


def note_sealed(node: Node, volume: str, sealed: Sequence[Sealing]) -> None:
    """Tell which keys of `volume` were replaced, and remember it. Cut: remembered or not.

    What cannot be written is told: the keys are replaced, and a boot goes on.
    """
    for entry in sealed:
        node.tell(f"{volume}, slot {entry.slot}: sealed anew, because {entry.cause}")
    try:
        marker = _marker(node, volume)
        os.makedirs(os.path.dirname(marker), mode=0o755, exist_ok=True)
        replace_file(marker, b"")
        _remember(state_directory(node), volume, sealed)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        node.tell(f"{volume}: it could not be noted that a tpm key was sealed anew: {error}")


def _remember(directory: str | None, volume: str, sealed: Sequence[Sealing]) -> None:
    if directory is None:
        return
    found = _read(directory)
    for entry in sealed:
        for policy in (entry.vouching.was, entry.vouching.policy):
            if policy is not None and (volume, entry.slot, policy) not in found:
                found.append((volume, entry.slot, policy))
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
