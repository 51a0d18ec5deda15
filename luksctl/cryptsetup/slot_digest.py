"""What makes a keyslot what it is, in one number: changed by whoever changes the slot, its key area, or its digests."""

from __future__ import annotations

import hashlib
import json

from luksctl.cryptsetup.header_image import HeaderImage
from luksctl.cryptsetup.metadata import parse_metadata


def slot_digests(image: HeaderImage, slots: tuple[int, ...]) -> dict[int, bytes]:
    """Return the SHA-256 of each slot of `slots` that is there; `image` holds their key areas.

    It covers the slot's JSON in canonical form, the numbers of the digests that name it, and its key area.
    """
    document = json.loads(image.header.json)
    areas = {area.slot: area for area in parse_metadata(image.header.json).areas}
    contents = dict(image.pieces)
    found = {}
    for slot in slots:
        if slot not in areas:
            continue
        naming = sorted(number for number, digest in document["digests"].items() if str(slot) in digest["keyslots"])
        text = json.dumps([document["keyslots"][str(slot)], naming], sort_keys=True, separators=(",", ":"))
        area = contents[areas[slot].offset_bytes]
        whole = hashlib.sha256(hashlib.sha256(text.encode()).digest())
        whole.update(hashlib.sha256(area).digest())
        found[slot] = whole.digest()
    return found
