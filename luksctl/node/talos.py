"""Whether Talos could open a volume, and what it would take away from it.

Rules of go-blockdevice 2.0.27 and later (header validation before an open) and of Talos' own key sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from luksctl.hints import Final
from luksctl.model.config import CIPHER_KEY_BITS
from luksctl.model.header import Keyslot, LuksHeader
from luksctl.units import KIB, format_size

_METADATA_BYTES: Final = 16 * KIB
_KDFS: Final = frozenset({"argon2id", "argon2i"})
_TOKENS: Final = frozenset({"sideroKMS", "talos-tpm2"})


def objections(header: LuksHeader) -> tuple[str, ...]:
    """Return why Talos would refuse to open the volume; empty where it would try."""
    return tuple(_objections(header))


def removes(header: LuksHeader, configured: Iterable[int]) -> tuple[int, ...]:
    """Return the keyslots that Talos would remove: those that its config, with these slots, does not list."""
    kept = frozenset(configured)
    return tuple(slot.number for slot in header.keyslots if slot.number not in kept)


def _objections(header: LuksHeader) -> Iterator[str]:
    if header.header_size_bytes > _METADATA_BYTES:
        yield f"the metadata is {format_size(header.header_size_bytes)}, and Talos reads {format_size(_METADATA_BYTES)}"
    if not header.keyslots:
        yield "there is no keyslot"
    for slot in header.keyslots:
        yield from _of_slot(slot)
    if header.reencrypting or header.requirements:
        yield "it is being re-encrypted, or has requirement flags"
    elif [(segment.number, segment.type) for segment in header.segments] != [(0, "crypt")]:
        yield "it has other segments than one of type crypt"
    for segment in header.segments:
        if segment.encryption not in CIPHER_KEY_BITS:
            yield f"the cipher {segment.encryption} is none of Talos' three"
        if segment.flags:
            yield f"segment {segment.number} has flags ({', '.join(segment.flags)})"
    slots = {slot.number for slot in header.keyslots}
    for token in header.tokens:
        if token.number in slots and token.type not in _TOKENS:
            yield f"token {token.number} has the number of a keyslot and a type Talos does not know ({token.type})"


def _of_slot(slot: Keyslot) -> Iterator[str]:
    if slot.type != "luks2":
        yield f"slot {slot.number} is of type {slot.type}"
        return
    if slot.kdf not in _KDFS:
        yield f"slot {slot.number} uses {slot.kdf}"
    if slot.area_encryption not in CIPHER_KEY_BITS:
        yield f"slot {slot.number} is stored with {slot.area_encryption}"
