"""The versions of the master key as one secret text of bytes, oldest first, and keys of reference servers.

    magic (16) | number of versions (2) | each: version (4), created (8, seconds since 1970), key (32)
    and with the second magic: | number of imported keys (2) | each: imported (8), length (2), key (32, zeros behind it)

All numbers are big endian. Bytes, because whatever reads JSON leaves strings behind that nobody can wipe.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from luksctl.errors import Refused, SealError
from luksctl.hints import Final, final
from luksctl.kms.reference import KEY_LENGTHS
from luksctl.model.kms import KeyVersion
from luksctl.secret import Secret

KEY_BYTES: Final = 32
MAGIC: Final = b"luksctl-kms-key1"
# Written only where there are imported keys, so that releases which know of none read all others.
MAGIC_WITH_IMPORTED: Final = b"luksctl-kms-key2"
# Nobody rotates so often, and a text that says more was not made here.
MOST_VERSIONS: Final = 1000
MOST_IMPORTED: Final = 16
_COUNT: Final = struct.Struct(">H")
_ENTRY: Final = struct.Struct(">IQ")
_IMPORTED: Final = struct.Struct(">QH")
_FIRST: Final = len(MAGIC) + _COUNT.size
_STEP: Final = _ENTRY.size + KEY_BYTES
_IMPORTED_STEP: Final = _IMPORTED.size + KEY_BYTES


@final
class Keyring:
    """Owns the secret text; versions begin at 1, and each is one higher than the one before."""

    def __init__(self, text: Secret) -> None:
        """Take `text`, which the caller must not close; SealError where it is no keyring."""
        self._text = text
        with text.view() as view:
            count, imported = _counts(view)
            entries = [_ENTRY.unpack_from(view, _FIRST + _STEP * index) for index in range(count)]
            self._last = _FIRST + _STEP * count + _COUNT.size
            heads = [_IMPORTED.unpack_from(view, self._last + _IMPORTED_STEP * index) for index in range(imported)]
        self.versions = tuple(KeyVersion(version, created) for version, created in entries)
        self.imported = tuple(at for at, _ in heads)
        self._lengths = tuple(length for _, length in heads)
        if [entry.version for entry in self.versions] != list(range(1, count + 1)):
            raise _damaged()
        if not set(self._lengths) <= set(KEY_LENGTHS):
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
        with Secret.random(KEY_BYTES) as key, self._entries() as entries:
            head = self._magic() + _COUNT.pack(count + 1)
            text = Secret.join(head, entries, _ENTRY.pack(count + 1, now), key, *self._tail())
        return Keyring(text)

    def with_imported(self, key: Secret, now: int) -> Keyring:
        """Return a keyring that also opens what a reference server sealed under `key`.

        SealError for a length that is none of AES; Refused for a key that is there, and for one too many.
        """
        if len(key) not in KEY_LENGTHS:
            raise SealError(
                f"a key of {len(key)} bytes is none of a reference server", hint="it has 16, 24 or 32 bytes"
            )
        if len(self.imported) == MOST_IMPORTED:
            raise Refused(f"{MOST_IMPORTED} keys of reference servers were imported, and there cannot be more")
        for known in self.imported_keys():
            with known, Secret.take(known.toreadonly()) as other:
                if other == key:
                    raise Refused("this key was imported before; nothing was written")
        with self._entries() as entries:
            head = MAGIC_WITH_IMPORTED + _COUNT.pack(len(self.versions))
            tail = self._tail() or (_COUNT.pack(0),)
            added = (_IMPORTED.pack(now, len(key)), key, bytes(KEY_BYTES - len(key)))
            count = _COUNT.pack(len(self.imported) + 1)
            text = Secret.join(head, entries, count, *tail[1:], *added)
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

    def imported_keys(self) -> Iterator[memoryview]:
        """Yield the keys of reference servers uncopied; use each in a `with`."""
        for index, length in enumerate(self._lengths):
            start = self._last + _IMPORTED_STEP * index + _IMPORTED.size
            with self._text.view() as view:
                yield view[start : start + length]

    def extends(self, older: Keyring) -> bool:
        """Tell whether this opens everything that `older` opens, and seals by its newest version or a later one."""
        with self._text.view() as mine, older._text.view() as theirs:
            entries = slice(_FIRST, older._last - _COUNT.size)
            imported = len(older.imported) * _IMPORTED_STEP
            behind = mine[self._last : self._last + imported] == theirs[older._last : older._last + imported]
            return len(self.versions) >= len(older.versions) and mine[entries] == theirs[entries] and behind

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

    def _magic(self) -> bytes:
        return MAGIC_WITH_IMPORTED if self.imported else MAGIC

    def _entries(self) -> Secret:
        with self._text.view() as view:
            return Secret.take(view[_FIRST : self._last - _COUNT.size].toreadonly())

    def _tail(self) -> tuple[Secret | bytes, ...]:
        """Return the number of imported keys, and they; nothing where there are none."""
        if not self.imported:
            return ()
        with self._text.view() as view:
            return _COUNT.pack(len(self.imported)), Secret.take(view[self._last :].toreadonly())


def is_keyring(content: bytes | memoryview) -> bool:
    """Tell whether `content` is an unsealed master key."""
    return bytes(content[: len(MAGIC)]) in {MAGIC, MAGIC_WITH_IMPORTED}


def _counts(view: memoryview) -> tuple[int, int]:
    """Return how many versions and imported keys there are; SealError where the length does not fit."""
    if len(view) < _FIRST or not is_keyring(view):
        raise _damaged()
    (count,) = _COUNT.unpack_from(view, len(MAGIC))
    end, imported = _FIRST + _STEP * count, 0
    if bytes(view[: len(MAGIC)]) == MAGIC_WITH_IMPORTED:
        if len(view) < end + _COUNT.size:
            raise _damaged()
        (imported,) = _COUNT.unpack_from(view, end)
        end += _COUNT.size + _IMPORTED_STEP * imported
        if not 1 <= imported <= MOST_IMPORTED:
            raise _damaged()
    if not 1 <= count <= MOST_VERSIONS or len(view) != end:
        raise _damaged()
    return int(count), int(imported)


def _damaged() -> SealError:
    return SealError("this is no master key of a luksctl KMS, or only a part of one", operation="read the master key")
