"""Whether keyslots, their tokens and the bookkeeping fit into a header: its JSON area is small. Pure.

libcryptsetup notices that an area is full in the middle of a change; this is asked before the first write.
"""

from __future__ import annotations

import json

from luksctl.hints import Final
from luksctl.model.bookkeeping import (
    MAX_KEYS_WITH_BOOKKEEPING,
    TOKEN_TYPE,
    Bookkeeping,
    Purpose,
    SlotNote,
    encode,
)
from luksctl.model.config import (
    DEFAULT_CIPHER,
    MAX_SLOT,
    ConfiguredKey,
    EncryptionPolicy,
    KeyKind,
    VolumeEncryption,
)
from luksctl.model.header import LuksHeader
from luksctl.units import KIB
from luksctl.value import frozen

# The sizes of one header copy (LUKS2 specification 1.1, 2.1); its first 4 KiB are the binary header.
TALOS_METADATA_BYTES: Final = 16 * KIB
LARGE_METADATA_BYTES: Final = 64 * KIB
_BINARY_BYTES: Final = 4 * KIB

# As libcryptsetup 2.6 writes them, without what is told apart below: a keyslot with its number in the digest, at the
# highest offset there can be; and a header without any.
_KEYSLOT_BYTES: Final = 288
_EMPTY_BYTES: Final = 425
# A provider's token; what a key management service replies may be longer, and is not known before it was asked.
_TOKEN_BYTES: Final = {KeyKind.KMS: 600, KeyKind.TPM: 1300}
_HEX: Final = "0" * 32
_ANY_TIME: Final = 1 << 32


@frozen
class JsonBudget:
    """What the JSON area of one header copy holds, and what is to go into it at the most."""

    capacity_bytes: int
    needed_bytes: int

    @property
    def fits(self) -> bool:
        """Tell whether it all fits; the text ends with a zero byte."""
        return self.needed_bytes < self.capacity_bytes


def budget_of_format(encryption: VolumeEncryption, policy: EncryptionPolicy) -> JsonBudget:
    """Return the budget of a new header with these keys, and a spare to change them through."""
    size_bytes = TALOS_METADATA_BYTES if policy.talos_readable else LARGE_METADATA_BYTES
    empty = _EMPTY_BYTES + len(encryption.cipher or DEFAULT_CIPHER)
    slots = [_slot_bytes(key, encryption, policy) for key in encryption.keys]
    needed = empty + sum(slots) + _books_bytes(Bookkeeping(), encryption) + max(slots, default=0)
    return JsonBudget(size_bytes - _BINARY_BYTES, needed)


def budget_of_sync(
    header: LuksHeader,
    books: Bookkeeping,
    encryption: VolumeEncryption,
    missing: tuple[ConfiguredKey, ...],
    policy: EncryptionPolicy,
) -> JsonBudget:
    """Return the budget while the slots of `missing` are added, and a spare, before any other one is removed."""
    ours = sum(len(token.json) for token in header.tokens if token.type == TOKEN_TYPE)
    stays = len(json.dumps(json.loads(header.json), separators=(",", ":"))) - ours
    spare = max((_slot_bytes(key, encryption, policy) for key in encryption.keys), default=0)
    added = sum(_slot_bytes(key, encryption, policy) for key in missing)
    needed = stays + added + _books_bytes(books, encryption) + spare
    return JsonBudget(header.header_size_bytes - _BINARY_BYTES, needed)


def _slot_bytes(key: ConfiguredKey, encryption: VolumeEncryption, policy: EncryptionPolicy) -> int:
    cost = policy.kdf_for(key.kind)
    told = len(f"{cost.time}{cost.memory_kib}{cost.threads}{encryption.cipher or DEFAULT_CIPHER}")
    return _KEYSLOT_BYTES + told + _TOKEN_BYTES.get(key.kind, 0)


def _books_bytes(books: Bookkeeping, encryption: VolumeEncryption) -> int:
    """Return how long the bookkeeping gets when every key is noted, and a spare is announced."""
    if len(encryption.keys) > MAX_KEYS_WITH_BOOKKEEPING:
        return 0
    for key in encryption.keys:
        token_fingerprint = _HEX if key.kind in _TOKEN_BYTES else None
        books = books.with_note(SlotNote(key.slot, Purpose.CONFIG, _ANY_TIME, _HEX, token_fingerprint))
    return len(f'"{MAX_SLOT}":,') + len(encode(books.with_underway(MAX_SLOT, MAX_SLOT), _HEX))
