"""The tokens of one header: JSON objects beside the keyslots."""

from __future__ import annotations

from enum import IntEnum

from luksctl.cryptsetup._libcryptsetup import ffi, lib
from luksctl.cryptsetup.handle import LUKS2, Handle
from luksctl.hints import Final, final

ANY_TOKEN: Final = lib.CRYPT_ANY_TOKEN


class TokenStatus(IntEnum):
    """What libcryptsetup says about a token (crypt_token_info); ours and Talos' are EXTERNAL_UNKNOWN."""

    INVALID = lib.CRYPT_TOKEN_INVALID
    INACTIVE = lib.CRYPT_TOKEN_INACTIVE
    INTERNAL = lib.CRYPT_TOKEN_INTERNAL
    INTERNAL_UNKNOWN = lib.CRYPT_TOKEN_INTERNAL_UNKNOWN
    EXTERNAL = lib.CRYPT_TOKEN_EXTERNAL
    EXTERNAL_UNKNOWN = lib.CRYPT_TOKEN_EXTERNAL_UNKNOWN


@final
class Tokens:
    """Read and write tokens; made by `Device.tokens`. All raise CryptsetupError.

    Every method that writes has written both header copies and synced them when it returns. A full metadata area is
    ENOSPC, with nothing written.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def get(self, number: int) -> str:
        """Return the JSON text of token `number`; ENOENT or EINVAL if there is none."""
        handle = self._handle
        text = ffi.new("const char **")
        handle.run(handle.operation(f"read token {number}"), lib.crypt_token_json_get, number, text)
        return ffi.string(text[0]).decode()

    def set(self, number: int | None, text: str) -> int:
        """Write the JSON `text` as token `number` (None: the first free one), replacing it; return the number.

        The text names its keyslots itself ("keyslots"), so the assignment is part of the same header write.
        """
        handle = self._handle
        wanted = ANY_TOKEN if number is None else number
        operation = handle.operation("write a token" if number is None else f"write token {number}")
        return handle.change(operation, lib.crypt_token_json_set, wanted, text.encode())

    def remove(self, number: int) -> None:
        """Remove token `number`."""
        handle = self._handle
        handle.change(handle.operation(f"remove token {number}"), lib.crypt_token_json_set, number, ffi.NULL)

    def status(self, number: int) -> TokenStatus:
        """Return what the loaded header says about token `number`."""
        return TokenStatus(lib.crypt_token_status(self._handle.pointer, number, ffi.NULL))

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of the tokens, in order."""
        return tuple(sorted(int(number) for number in self._handle.metadata()["tokens"]))

    def assign(self, number: int, slot: int) -> None:
        """Assign token `number` to keyslot `slot` too."""
        handle = self._handle
        handle.change(handle.operation(f"assign token {number}", slot), lib.crypt_token_assign_keyslot, number, slot)

    def unassign(self, number: int, slot: int) -> None:
        """Take the assignment of token `number` to keyslot `slot` away."""
        handle = self._handle
        handle.change(
            handle.operation(f"unassign token {number}", slot), lib.crypt_token_unassign_keyslot, number, slot
        )

    def keyslots(self, number: int) -> tuple[int, ...]:
        """Return the keyslots that token `number` is assigned to; KeyError if there is no such token."""
        assigned = self._handle.metadata()["tokens"][str(number)]["keyslots"]
        return tuple(sorted(int(slot) for slot in assigned))

    @staticmethod
    def count_limit() -> int:
        """Return how many tokens LUKS2 has."""
        return lib.crypt_token_max(LUKS2)
