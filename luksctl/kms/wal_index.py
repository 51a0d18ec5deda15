"""Whether anything was committed to an SQLite database in WAL mode, without asking SQLite.

The file NAME-shm begins with two copies of a header of 48 bytes (https://www.sqlite.org/walformat.html, 2.1): a counter
of commits, the last frame of the log, salts and checksums. Each commit changes it, whoever makes it, before it is
reported; and the pages that SQLite itself keeps count for as long as it stays the same.
"""

from __future__ import annotations

import mmap
import os

from luksctl.hints import Final, final

_HEADER_BYTES: Final = 48


@final
class WalIndex:
    """Looks at the header; for who has a connection to the database, which keeps the file from being replaced.

    It must be closed after every connection of this process: closing any descriptor of a file takes all POSIX locks of
    a process from it (fcntl(2)), and those are SQLite's.
    """

    def __init__(self, database: str) -> None:
        """Map the header; OSError or ValueError where there is none."""
        descriptor = os.open(f"{database}-shm", os.O_RDONLY | os.O_CLOEXEC)
        self._header = mmap.mmap(descriptor, 2 * _HEADER_BYTES, prot=mmap.PROT_READ)
        self._descriptor = descriptor

    def mark(self) -> bytes | None:
        """Return what stays equal until the next commit; None while one is being made."""
        # The writer changes the second copy first.
        first = self._header[:_HEADER_BYTES]
        return first if first == self._header[_HEADER_BYTES:] else None

    def close(self) -> None:
        """Unmap it."""
        self._header.close()
        os.close(self._descriptor)
