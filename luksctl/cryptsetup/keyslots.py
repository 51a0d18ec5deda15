"""The keyslots of one header."""

from __future__ import annotations

from enum import IntEnum

from luksctl.cryptsetup._libcryptsetup import lib
from luksctl.cryptsetup.handle import ANY_SLOT, LUKS2, Handle
from luksctl.cryptsetup.kdf import Kdf
from luksctl.cryptsetup.passing import chars_of, optional_chars_of
from luksctl.hints import Any, final
from luksctl.secret import Secret


class KeyslotStatus(IntEnum):
    """What libcryptsetup says about a keyslot (crypt_keyslot_info)."""

    INVALID = lib.CRYPT_SLOT_INVALID
    INACTIVE = lib.CRYPT_SLOT_INACTIVE
    ACTIVE = lib.CRYPT_SLOT_ACTIVE
    ACTIVE_LAST = lib.CRYPT_SLOT_ACTIVE_LAST
    UNBOUND = lib.CRYPT_SLOT_UNBOUND


class Priority(IntEnum):
    """Whether an unlock without a slot number tries the keyslot (crypt_keyslot_priority)."""

    INVALID = lib.CRYPT_SLOT_PRIORITY_INVALID
    IGNORE = lib.CRYPT_SLOT_PRIORITY_IGNORE
    NORMAL = lib.CRYPT_SLOT_PRIORITY_NORMAL
    PREFER = lib.CRYPT_SLOT_PRIORITY_PREFER


@final
class Keyslots:
    """Add, change, destroy and read keyslots; made by `Device.keyslots`.

    Every method that writes has written both header copies and synced them when it returns. All raise CryptsetupError;
    where a passphrase is asked for, SlotPassphraseRejected if it is wrong and KdfOutOfBounds before it is tried. Those
    that derive a key raise KdfOutOfMemory before they do.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def add_by_volume_key(self, slot: int | None, key: Secret, volume_key: Secret | None, kdf: Kdf) -> int:
        """Write `key` into the free `slot` (None: the first free one) and return its number.

        `volume_key` None is the random one that `Device.format` made, where this very handle formatted. Cut: the
        keyslot's area is written before the header, so the slot is not there, or there and whole
        (crypt_keyslot_add_by_volume_key).
        """
        handle = self._handle
        handle.set_kdf(kdf)
        memory = handle.deriving(slot, unlocks=False, new=kdf)
        with memory, chars_of(key) as key_chars, optional_chars_of(volume_key) as volume_chars:
            return handle.change(
                handle.unlocking("add a keyslot", slot),
                lib.crypt_keyslot_add_by_volume_key,
                _number(slot),
                volume_chars,
                0 if volume_key is None else len(volume_key),
                key_chars,
                len(key),
            )

    def add_by_passphrase(self, slot: int | None, key: Secret, existing: Secret, kdf: Kdf) -> int:
        """Write `key` into the free `slot`, with `existing` opening any other one; return the number.

        Cut: as `add_by_volume_key` (crypt_keyslot_add_by_passphrase).
        """
        handle = self._handle
        memory = handle.deriving(None, new=kdf)
        handle.set_kdf(kdf)
        with memory, chars_of(key) as key_chars, chars_of(existing) as existing_chars:
            return handle.change(
                handle.unlocking("add a keyslot", slot),
                lib.crypt_keyslot_add_by_passphrase,
                _number(slot),
                existing_chars,
                len(existing),
                key_chars,
                len(key),
            )

    def add_unbound(
        self, slot: int | None, key: Secret, stored_key: Secret, kdf: Kdf, *, known_key: bool = False
    ) -> int:
        """Write `key` into `slot` so that it opens `stored_key`, which belongs to no segment; return the number.

        A `known_key` has a digest already, by an earlier call (crypt_keyslot_add_by_key, CRYPT_VOLUME_KEY_NO_SEGMENT).
        """
        flags = lib.CRYPT_VOLUME_KEY_NO_SEGMENT | (lib.CRYPT_VOLUME_KEY_DIGEST_REUSE if known_key else 0)
        handle = self._handle
        handle.set_kdf(kdf)
        memory = handle.deriving(slot, unlocks=False, new=kdf)
        with memory, chars_of(key) as key_chars, chars_of(stored_key) as stored_chars:
            return handle.change(
                handle.unlocking("add an unbound keyslot", slot),
                lib.crypt_keyslot_add_by_key,
                _number(slot),
                stored_chars,
                len(stored_key),
                key_chars,
                len(key),
                flags,
            )

    def change(self, slot: int, new_slot: int, old_key: Secret, new_key: Secret, kdf: Kdf) -> int:
        """Replace `old_key` in `slot` by `new_key` in `new_slot`; return the number.

        With both slots the same, there are moments in which neither key opens; a cut there loses the slot. With two
        slots the old one is removed after the new one is written (crypt_keyslot_change_by_passphrase).
        """
        handle = self._handle
        memory = handle.deriving(slot, new=kdf)
        handle.set_kdf(kdf)
        with memory, chars_of(old_key) as old_chars, chars_of(new_key) as new_chars:
            return handle.change(
                handle.unlocking("change a keyslot", slot),
                lib.crypt_keyslot_change_by_passphrase,
                slot,
                new_slot,
                old_chars,
                len(old_key),
                new_chars,
                len(new_key),
            )

    def destroy(self, slot: int) -> None:
        """Overwrite the keyslot's area and remove it from the header.

        Cut: the slot is still listed, and dead (crypt_keyslot_destroy).
        """
        handle = self._handle
        handle.change(handle.operation("destroy a keyslot", slot), lib.crypt_keyslot_destroy, slot)

    def status(self, slot: int) -> KeyslotStatus:
        """Return what the loaded header says about `slot`."""
        return KeyslotStatus(lib.crypt_keyslot_status(self._handle.pointer, slot))

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the keyslots in use, in order, unbound ones and a re-encryption's own too."""
        return tuple(sorted(int(number) for number in self._handle.metadata()["keyslots"]))

    def json(self, slot: int) -> dict[str, Any]:
        """Return the JSON object of `slot`; KeyError if it is not in use."""
        found: dict[str, Any] = self._handle.metadata()["keyslots"][str(slot)]
        return found

    def priority(self, slot: int) -> Priority:
        """Return the priority of `slot`; INVALID if it is not in use."""
        return Priority(lib.crypt_keyslot_get_priority(self._handle.pointer, slot))

    def set_priority(self, slot: int, priority: Priority) -> None:
        """Write the priority of `slot`."""
        handle = self._handle
        handle.change(
            handle.operation("set the priority of a keyslot", slot), lib.crypt_keyslot_set_priority, slot, priority
        )

    @staticmethod
    def count_limit() -> int:
        """Return how many keyslots LUKS2 has."""
        return lib.crypt_keyslot_max(LUKS2)


def _number(slot: int | None) -> int:
    return ANY_SLOT if slot is None else slot
