"""The list of nodes: what each method promises, among several processes, and after a kill in the middle."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luksctl.errors import Busy, DeviceError
from luksctl.kms.nodes import Sighting
from luksctl.kms.sqlite_nodes import NAME, SqliteNodes, _transaction
from luksctl.model.kms import KnownNode, NodeState
from tests.house.tree import ROOT

A, B, C = (hashlib.sha256(name).digest() for name in (b"a", b"b", b"c"))
SEEN = Sighting("10.0.0.1", None, 100)
WITH_CERTIFICATE = Sighting("10.0.0.1", "aa", 100)


@pytest.fixture
def store(tmp_path: Path) -> SqliteNodes:
    """Return an empty list."""
    return SqliteNodes(str(tmp_path), create=True)


def _allow(store: SqliteNodes, *nodes: bytes, state: NodeState = NodeState.ALLOWED) -> None:
    store.change(nodes, state, 50, note=None, new_certificate=False)


def test_a_node_is_as_it_was_noted(store: SqliteNodes, tmp_path: Path) -> None:
    """Also for another process that opens the file later."""
    assert store.note({A: SEEN, B: WITH_CERTIFICATE}, most=10) == 0
    for opened in (store, SqliteNodes(str(tmp_path))):
        assert opened.find(A) == KnownNode(A, NodeState.PENDING, None, 100, 100, None, "10.0.0.1", "")
        assert opened.find(B) == KnownNode(B, NodeState.PENDING, "aa", 100, 100, None, "10.0.0.1", "")
        assert opened.find(C) is None
        assert opened.counts() == {NodeState.PENDING: 2, NodeState.ALLOWED: 0, NodeState.REVOKED: 0}


def test_noting_changes_nobody_who_is_known(store: SqliteNodes) -> None:
    """Whoever is allowed stays so, and whoever is revoked too; only unknown ones count against the bound."""
    _allow(store, A)
    _allow(store, B, state=NodeState.REVOKED)
    assert store.note({A: SEEN, B: SEEN, C: SEEN}, most=1) == 0
    assert store.note({A: SEEN, hashlib.sha256(b"d").digest(): SEEN}, most=1) == 1
    assert [node.state for node in (store.find(A), store.find(B), store.find(C)) if node] == [
        NodeState.ALLOWED,
        NodeState.REVOKED,
        NodeState.PENDING,
    ]


def test_enrolling_respects_the_operator_and_the_certificate(store: SqliteNodes) -> None:
    """Unknown and pending ones are allowed, revoked ones never, and another certificate than the noted one never."""
    _allow(store, B, state=NodeState.REVOKED)
    store.note({C: WITH_CERTIFICATE}, most=10)
    assert store.enrol(A, WITH_CERTIFICATE)
    assert not store.enrol(B, SEEN)
    assert not store.enrol(C, Sighting("10.0.0.1", "bb", 200))
    assert store.enrol(C, WITH_CERTIFICATE)
    assert [node.state for node in store.every()].count(NodeState.ALLOWED) == 2
    known = store.find(A)
    assert known is not None
    assert known.certificate == "aa"


def test_a_certificate_is_bound_once(store: SqliteNodes) -> None:
    """Of two that come at once one is bound; the same again is no change."""
    _allow(store, A)
    assert store.bind(A, "aa", 1)
    assert store.bind(A, "aa", 2)
    assert not store.bind(A, "bb", 3)
    assert not store.bind(B, "aa", 3)


def test_of_many_threads_one_binds(store: SqliteNodes) -> None:
    """Nobody overtakes another between look and write."""
    _allow(store, A)
    with ThreadPoolExecutor(8) as pool:
        bound = list(pool.map(lambda number: store.bind(A, f"{number:02x}", number), range(32)))
    assert bound.count(True) == 1
    store.close()


def test_changing_keeps_what_it_does_not_name(store: SqliteNodes) -> None:
    """Note and certificate stay unless they are given or forgotten; a node nobody heard of is made."""
    store.enrol(A, WITH_CERTIFICATE)
    store.change([A], NodeState.REVOKED, 60, note="rack 4", new_certificate=False)
    store.change([A, B], NodeState.ALLOWED, 70, note=None, new_certificate=False)
    first, second = store.find(A), store.find(B)
    assert first is not None
    assert second is not None
    assert (first.note, first.certificate, first.changed, first.first_seen) == ("rack 4", "aa", 70, 100)
    assert (second.state, second.certificate, second.note) == (NodeState.ALLOWED, None, "")
    store.change([A], NodeState.ALLOWED, 80, note=None, new_certificate=True)
    first = store.find(A)
    assert first is not None
    assert first.certificate is None


def test_last_seen_never_goes_back(store: SqliteNodes) -> None:
    """Two workers write in any order; a node that is not in the list is not made."""
    _allow(store, A)
    store.seen({A: 200, C: 200})
    store.seen({A: 150})
    known = store.find(A)
    assert known is not None
    assert known.last_seen == 200
    assert store.find(C) is None


def test_all_are_changed_or_none(store: SqliteNodes) -> None:
    """Identities of the wrong length are what a bug would bring."""
    with pytest.raises(DeviceError):
        _allow(store, A, b"short")
    assert store.every() == ()


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    """Damaged, missing, or of a newer luksctl."""
    with pytest.raises(DeviceError, match="no list of nodes"):
        SqliteNodes(str(tmp_path))
    (tmp_path / NAME).write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(DeviceError, match="not a database"):
        SqliteNodes(str(tmp_path))
    (tmp_path / NAME).unlink()
    with sqlite3.connect(tmp_path / NAME) as newer:
        newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(DeviceError, match="newer luksctl"):
        SqliteNodes(str(tmp_path))


def test_a_list_that_somebody_keeps_is_busy(store: SqliteNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for ever: the caller is told to come again."""
    monkeypatch.setattr("luksctl.kms.sqlite_nodes._BUSY_S", 0.0)
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with ThreadPoolExecutor(1) as pool, pytest.raises(Busy):
            pool.submit(_allow, store, A).result()
    finally:
        holder.close()


_WRITER = """
import hashlib, sys
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.model.kms import NodeState
store = SqliteNodes(sys.argv[1])
for number in range(100000):
    node = hashlib.sha256(str(number).encode()).digest()
    store.change([node], NodeState.ALLOWED, number, note=None, new_certificate=False)
    print(number, flush=True)
"""


@pytest.mark.parametrize("count", [1, 7, 40])
def test_what_was_answered_is_there_after_a_kill(store: SqliteNodes, tmp_path: Path, count: int) -> None:
    """Every change that was reported before SIGKILL, and at most one more."""
    command = (sys.executable, "-c", _WRITER, str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(count)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        told = [int(line) for line in writer.stdout.read().split()]
    last = max([last, *told])
    assert last + 1 <= len(store.every()) <= last + 2
    for number in range(last + 1):
        known = store.find(hashlib.sha256(str(number).encode()).digest())
        assert known is not None
        assert known.changed == number


def test_a_full_disk_leaves_the_list_as_it_was_and_ready(store: SqliteNodes) -> None:
    """The cause is named; once there is room, the same thread goes on."""
    connection = store._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DeviceError, match="full"):
        _allow(store, *(hashlib.sha256(number.to_bytes(4)).digest() for number in range(5000)))
    assert store.every() == ()
    connection.execute("PRAGMA max_page_count = 100000")
    _allow(store, A)
    assert [node.identity for node in store.every()] == [A]


def test_a_transaction_that_cannot_be_committed_is_over(tmp_path: Path) -> None:
    """Its error is the one that is told, and the next one begins."""
    connection = sqlite3.connect(tmp_path / "any.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE two (id INTEGER REFERENCES one DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), _transaction(connection):
        connection.execute("INSERT INTO two VALUES (7)")
    with _transaction(connection):
        connection.execute("INSERT INTO one VALUES (7)")
    assert connection.execute("SELECT count(*) FROM two").fetchone() == (0,)
    connection.close()


def test_what_was_found_is_recalled_until_anybody_changes_the_list(store: SqliteNodes, tmp_path: Path) -> None:
    """Whatever was changed, through this list or another one; a node that is in none is never recalled."""
    _allow(store, A)
    other = SqliteNodes(str(tmp_path))
    changes = (
        lambda: store.change([A], NodeState.REVOKED, 60, note=None, new_certificate=False),
        lambda: other.change([A], NodeState.ALLOWED, 70, note=None, new_certificate=False),
        lambda: other.bind(A, "aa", 80),
        lambda: other.enrol(B, SEEN),
        lambda: store.seen({A: 200}),
        lambda: other.note({C: SEEN}, 10),
    )
    for change in changes:
        assert store.recall(A) is None
        found = store.find(A)
        assert found is not None
        assert store.recall(A) == found
        assert store.find(hashlib.sha256(b"d").digest()) is None
        assert store.recall(hashlib.sha256(b"d").digest()) is None
        change()
    other.close()
    assert store.recall(A) is None


def test_a_list_that_leaves_its_log_behind_is_not_recalled(store: SqliteNodes) -> None:
    """A checkpoint begins the log anew: what is committed then looks like no commit before."""
    _allow(store, A)
    for turn in range(4):
        assert store.find(A) is not None
        assert store.recall(A) is not None
        with sqlite3.connect(store.path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        store.find(A)
        _allow(store, A, state=NodeState.ALLOWED if turn % 2 else NodeState.REVOKED)
        assert store.recall(A) is None


_FLIPPING = """
import sys
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.model.kms import NodeState
store, node = SqliteNodes(sys.argv[1]), bytes.fromhex(sys.argv[2])
for turn, _ in enumerate(sys.stdin):
    store.change([node], NodeState.REVOKED if turn % 2 else NodeState.ALLOWED, turn, note=None, new_certificate=False)
    print(turn, flush=True)
"""


def test_what_another_process_has_committed_is_never_overlooked(store: SqliteNodes, tmp_path: Path) -> None:
    """Once it says so, nothing older is recalled: an operator revokes a node, and the next request is refused."""
    command = (sys.executable, "-c", _FLIPPING, str(tmp_path), A.hex())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as operator:
        assert operator.stdin is not None
        assert operator.stdout is not None
        for turn in range(30):
            operator.stdin.write("\n")
            operator.stdin.flush()
            assert int(operator.stdout.readline()) == turn
            assert store.recall(A) is None
            found = store.find(A)
            assert found is not None
            assert found.changed == turn
            assert store.recall(A) == found
        operator.stdin.close()
