"""The versions of the master key as one secret text of bytes, oldest first.

    magic (16) | number of versions (2) | each: version (4), created (8, seconds since 1970), key (32)

All numbers are big endian. Bytes, because whatever reads JSON leaves strings behind that nobody can wipe.
"""

from __future__ import annotations

import struct

from luksctl.errors import SealError
from luksctl.hints import Final, final
from luksctl.model.kms import KeyVersion
from luksctl.secret import Secret

KEY_BYTES: Final = 32
MAGIC: Final = b"luksctl-kms-key1"
# Nobody rotates so often, and a text that says more was not made here.
MOST_VERSIONS: Final = 1000
_COUNT: Final = struct.Struct(">H")
_ENTRY: Final = struct.Struct(">IQ")
_FIRST: Final = len(MAGIC) + _COUNT.size
_STEP: Final = _ENTRY.size + KEY_BYTES


@final
class Keyring:
    """Owns the secret text; versions begin at 1, and each is one higher than the one before."""

    def __init__(self, text: Secret) -> None:
        """Take `text`, which the caller must not close; SealError where it is no keyring."""
        self._text = text
        with text.view() as view:
            count = _count(view)
            entries = [_ENTRY.unpack_from(view, _FIRST + _STEP * index) for index in range(count)]
        self.versions = tuple(KeyVersion(version, created) for version, created in entries)
        if [entry.version for entry in self.versions] != list(range(1, count + 1)):
            raise _damaged()

    @classmethod
    def new(cls, now: int) -> Keyring:
        """Make a keyring with one random master key."""
        with Secret.random(KEY_BYTES) as key:
            return cls(Secret.join(MAGIC + _COUNT.pack(1) + _ENTRY.pack(1, now), key))

    def rotated(self, now: int) -> Keyring:
        """Return a keyring with one more version; SealError where there are too many."""
        count = len(self.versions)
        if count == MOST_VERSIONS:
            raise SealError(f"the master key has {count} versions, and cannot have more")
        head = MAGIC + _COUNT.pack(count + 1)
        with Secret.random(KEY_BYTES) as key:
            text = Secret.join(head, self._entries(), _ENTRY.pack(count + 1, now), key)
        return Keyring(text)

    @property
    def newest(self) -> KeyVersion:
        """Return the version that seals."""
        return self.versions[-1]

    def has(self, version: int) -> bool:
        """Tell whether there is such a version."""
        return 1 <= version <= len(self.versions)

    def master(self, version: int) -> memoryview:
        """Return the key of a version uncopied; use it in a `with`."""
        start = _FIRST + _STEP * (version - 1) + _ENTRY.size
        with self._text.view() as view:
            return view[start : start + KEY_BYTES]

    def text(self) -> Secret:
        """Return a copy of the secret text."""
        return Secret.join(self._text)

    def close(self) -> None:
        """Wipe it."""
        self._text.close()

    def __enter__(self) -> Keyring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entries(self) -> Secret:
        with self._text.view() as view:
            return Secret.take(view[_FIRST:].toreadonly())


def is_keyring(content: bytes | memoryview) -> bool:
    """Tell whether `content` is an unsealed master key."""
    return bytes(content[: len(MAGIC)]) == MAGIC


def _count(view: memoryview) -> int:
    if len(view) < _FIRST or not is_keyring(view):
        raise _damaged()
    (count,) = _COUNT.unpack_from(view, len(MAGIC))
    if not 1 <= count <= MOST_VERSIONS or len(view) != _FIRST + _STEP * count:
        raise _damaged()
    return int(count)


def _damaged() -> SealError:
    return SealError("this is no master key of a luksctl KMS, or only a part of one", operation="read the master key")
