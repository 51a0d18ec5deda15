"""The list of nodes in one SQLite file that several processes share, kept over power cuts (WAL, synchronous=FULL)."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps

from luksctl.errors import Busy, DeviceError
from luksctl.hints import Concatenate, Final, ParamSpec, TypeVar, final
from luksctl.kms.nodes import Sighting
from luksctl.kms.wal_index import WalIndex
from luksctl.model.kms import KnownNode, NodeState

NAME: Final = "nodes.db"
_SCHEMA_VERSION: Final = 1
_BUSY_S: Final = 5.0
_MOST_RECENT: Final = 65536
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS nodes (
    identity BLOB NOT NULL PRIMARY KEY CHECK (length(identity) = 32),
    state TEXT NOT NULL CHECK (state IN ('pending', 'allowed', 'revoked')),
    certificate TEXT,
    first_seen INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    last_seen INTEGER,
    peer TEXT,
    note TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID
"""
_COLUMNS: Final = "identity, state, certificate, first_seen, changed, last_seen, peer, note"
_FIND: Final = f"SELECT {_COLUMNS} FROM nodes WHERE identity = ?"  # noqa: S608  # our own words
_EVERY: Final = f"SELECT {_COLUMNS} FROM nodes ORDER BY first_seen, identity"  # noqa: S608  # as above
_ENROL: Final = """
INSERT INTO nodes (identity, state, certificate, first_seen, changed, peer) VALUES (?, 'allowed', ?, ?, ?, ?)
ON CONFLICT (identity) DO UPDATE SET state = 'allowed', changed = excluded.changed,
    certificate = coalesce(certificate, excluded.certificate)
WHERE state <> 'revoked' AND (certificate IS NULL OR certificate IS excluded.certificate)
"""
_NOTE: Final = """
INSERT INTO nodes (identity, state, certificate, first_seen, changed, peer)
SELECT ?, 'pending', ?, ?, ?, ? WHERE (SELECT count(*) FROM nodes WHERE state = 'pending') < ?
ON CONFLICT (identity) DO NOTHING
"""
_CHANGE: Final = """
INSERT INTO nodes (identity, state, first_seen, changed, note) VALUES (?, ?, ?, ?, coalesce(?, ''))
ON CONFLICT (identity) DO UPDATE SET state = excluded.state, changed = excluded.changed,
    note = coalesce(?, note), certificate = CASE WHEN ? THEN NULL ELSE certificate END
"""

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")


def _told(
    method: Callable[Concatenate[SqliteNodes, _Parameters], _Answer],
) -> Callable[Concatenate[SqliteNodes, _Parameters], _Answer]:
    """Turn what SQLite raises into errors of ours."""

    @wraps(method)
    def run(self: SqliteNodes, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Answer:
        try:
            return method(self, *args, **kwargs)
        except sqlite3.OperationalError as error:
            kind = Busy if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY else DeviceError
            raise kind(f"{self.path}: {error}", operation="the list of nodes") from error
        except sqlite3.DatabaseError as error:
            raise DeviceError(
                f"{self.path}: {error}", operation="the list of nodes", hint="put a backup of it back"
            ) from error

    return run


@final
class SqliteNodes:
    """The list in `directory`; each thread has a connection of its own.

    Cut while it writes: each method is one transaction, which is there as a whole or not at all.
    """

    def __init__(self, directory: str, *, create: bool = False) -> None:
        """Open the list; DeviceError where there is none, unless it is to be made."""
        self.path = os.path.join(directory, NAME)
        self._own = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._index: WalIndex | None = None
        self._found: tuple[bytes | None, dict[bytes, KnownNode]] = (None, {})
        if create:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        elif not os.path.exists(self.path):
            raise DeviceError(f"{self.path}: there is no list of nodes", hint="luksctl kms init")
        self._prepare()

    @_told
    def _prepare(self) -> None:
        connection = self._connection()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise DeviceError(f"{self.path}: a newer luksctl made this list of nodes", operation="the list of nodes")
        if version < _SCHEMA_VERSION:
            with _transaction(connection):
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    @_told
    def find(self, identity: bytes) -> KnownNode | None:
        """Return what is known of a node."""
        before = self._mark()
        row = self._connection().execute(_FIND, (identity,)).fetchone()
        if row is None:
            return None
        node = _node(row)
        if before is not None and before == self._mark():
            mark, found = self._found
            if mark != before or len(found) >= _MOST_RECENT:
                found = {}
            # Two threads at once may lose an entry here; none comes to stand under another mark.
            found[identity] = node
            self._found = (before, found)
        return node

    def recall(self, identity: bytes) -> KnownNode | None:
        """Return what `find` said of a node, if nobody has changed the list since; else None."""
        mark, found = self._found
        node = found.get(identity)
        return node if node is not None and mark == self._mark() else None

    @_told
    def every(self) -> tuple[KnownNode, ...]:
        """Return all nodes, oldest first."""
        return tuple(map(_node, self._connection().execute(_EVERY)))

    @_told
    def counts(self) -> dict[NodeState, int]:
        """Return how many nodes there are in each state."""
        rows = dict(self._connection().execute("SELECT state, count(*) FROM nodes GROUP BY state"))
        return {state: rows.get(state.value, 0) for state in NodeState}

    @_told
    def enrol(self, identity: bytes, sighting: Sighting) -> bool:
        """Allow a node that is unknown or pending; False where it was revoked, or has another certificate by now."""
        values = (identity, sighting.certificate, sighting.at, sighting.at, sighting.address)
        return self._connection().execute(_ENROL, values).rowcount == 1

    @_told
    def bind(self, identity: bytes, certificate: str, at: int) -> bool:
        """Bind a certificate to a node that has none; False where another one is bound to it by now."""
        statement = (
            "UPDATE nodes SET certificate = ?, changed = ? "
            "WHERE identity = ? AND (certificate IS NULL OR certificate = ?)"
        )
        return self._connection().execute(statement, (certificate, at, identity, certificate)).rowcount == 1

    @_told
    def note(self, sightings: Mapping[bytes, Sighting], most: int) -> int:
        """Note unknown nodes as pending while there are less than `most` such; return how many were left out."""
        connection, left_out = self._connection(), 0
        with _transaction(connection):
            for identity, seen in sightings.items():
                values = (identity, seen.certificate, seen.at, seen.at, seen.address, most)
                if connection.execute(_NOTE, values).rowcount != 1:
                    left_out += connection.execute(_FIND, (identity,)).fetchone() is None
        return left_out

    @_told
    def seen(self, times: Mapping[bytes, int]) -> None:
        """Note when nodes were last answered."""
        connection = self._connection()
        with _transaction(connection):
            connection.executemany(
                "UPDATE nodes SET last_seen = max(coalesce(last_seen, 0), ?) WHERE identity = ?",
                [(at, identity) for identity, at in times.items()],
            )

    @_told
    def change(
        self, identities: Sequence[bytes], state: NodeState, at: int, *, note: str | None, new_certificate: bool
    ) -> None:
        """Give nodes a state, all of them or none; `new_certificate` frees them of the one that is bound to them."""
        connection = self._connection()
        with _transaction(connection):
            for identity in identities:
                values = (identity, state.value, at, at, note, note, new_certificate)
                connection.execute(_CHANGE, values)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
            index, self._index = self._index, None
        self._own = threading.local()
        if index is not None:
            index.close()

    def _mark(self) -> bytes | None:
        """Return what stands for the list as it is; None where that cannot be told."""
        index = self._index or self._look()
        return None if index is None else index.mark()

    def _look(self) -> WalIndex | None:
        self._connection()  # it makes the file, and keeps it
        with self._lock, suppress(OSError, ValueError):
            if self._index is None:  # a second one must not be made: what closes it takes the locks of connections
                self._index = WalIndex(self.path)
        return self._index

    def _connection(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if known is not None:
            return known
        # No thread uses another one's, but the one that closes them all at the end.
        made = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        with self._lock:
            self._all.append(made)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA synchronous = FULL")
        self._own.connection = made
        return made


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction that has the write lock from the start, so that it never loses it midway.

    One that fails, be it while it is committed, leaves the connection ready for the next.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself has ended it where the disk is full
            connection.execute("ROLLBACK")
        raise


def _node(row: tuple[bytes, str, str | None, int, int, int | None, str | None, str]) -> KnownNode:
    identity, state, certificate, first_seen, changed, last_seen, peer, note = row
    return KnownNode(identity, NodeState(state), certificate, first_seen, changed, last_seen, peer, note)
