"""What is counted and shown: the sum of all workers, as Prometheus reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from luksctl.kms.admission import Outcome, Verb
from luksctl.kms.board import BOUNDS_S, Board
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.kms.status import metrics_text, readiness
from luksctl.model.kms import NodeState

_LINE = re.compile(r"^luksctl_kms_\w+(\{\w+=\"[^\"]+\"(,\w+=\"[^\"]+\")*\})? [\d.]+$")


@pytest.fixture
def store(tmp_path: Path) -> SqliteNodes:
    """Return a list with one node."""
    made = SqliteNodes(str(tmp_path), create=True)
    made.change([bytes(32)], NodeState.REVOKED, 0, note=None, new_certificate=False)
    return made


def test_what_processes_count_adds_up(store: SqliteNodes) -> None:
    """Also of one that is gone: its row stays."""
    board = Board(2)
    child = os.fork()
    if child == 0:
        board.row(1).request(Verb.SEAL, Outcome.OK, 0.002)
        board.row(1).audit_failed()
        os._exit(0)
    os.waitpid(child, 0)
    board.row(0).request(Verb.SEAL, Outcome.OK, 5.0)
    board.row(0).request(Verb.UNSEAL, Outcome.REVOKED, 0.0)
    assert board.requests()[Verb.SEAL, Outcome.OK] == 2
    counts, total_s = board.durations(Verb.SEAL)
    assert (sum(counts), counts[BOUNDS_S.index(0.0025)], counts[-1]) == (2, 1, 1)
    assert total_s == pytest.approx(5.002)
    board.row(0).set_key_version(7)
    text = metrics_text(board, store)
    for line in (
        'luksctl_kms_requests_total{verb="seal",outcome="ok"} 2',
        'luksctl_kms_requests_total{verb="unseal",outcome="revoked"} 1',
        'luksctl_kms_request_seconds_bucket{verb="seal",le="+Inf"} 2',
        'luksctl_kms_nodes{state="revoked"} 1',
        "luksctl_kms_audit_failures_total 1",
        "luksctl_kms_key_version 7",
    ):
        assert f"{line}\n" in text


def test_every_line_is_one_of_prometheus(store: SqliteNodes) -> None:
    """A name, labels, a number; each name has its type before it, once."""
    lines = metrics_text(Board(1), store).splitlines()
    types = [line.split()[2] for line in lines if line.startswith("#")]
    assert len(types) == len(set(types))
    for line in lines:
        assert line.startswith("# TYPE ") or _LINE.match(line), line


def test_ready_takes_a_worker_and_a_list(store: SqliteNodes, tmp_path: Path) -> None:
    """Each that is missing is named."""
    board = Board(2)
    assert readiness(board, store)["against"] == ["no worker answers"]
    board.row(1).set_ready(True)
    assert readiness(board, store) == {"ready": True, "workers": 1, "against": []}
    store.close()
    (tmp_path / "nodes.db").write_bytes(b"damaged" * 10000)
    assert readiness(board, store)["against"] == ["the list of nodes cannot be read"]
    assert "luksctl_kms_store_up 0\n" in metrics_text(board, store)
    assert readiness(board, None)["ready"]
