"""The audit log: whole lines, of several writers, in the file that has the name."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from luksctl.errors import DeviceError
from luksctl.kms.admission import Outcome, Verb
from luksctl.kms.audit import AuditLog
from luksctl.kms.identity import identity_of
from tests.kms.serving import NODE, read_audit


def _write(log: AuditLog, peer: str = "10.0.0.1", node: bytes | None = None) -> None:
    log.write(Verb.SEAL, Outcome.OK, node=node, peer=peer, began=1_700_000_000.25, took_s=0.0015)


def test_a_line_is_what_the_documents_say(tmp_path: Path) -> None:
    """Time, node as the beginning of its hash, peer, verb, outcome, milliseconds."""
    log = AuditLog(str(tmp_path / "audit.log"))
    _write(log, node=identity_of(NODE))
    log.close()
    assert read_audit(tmp_path) == [
        {
            "time": "2023-11-14T22:13:20.250+00:00",
            "node": "c351ccab198dfe5d",
            "peer": "10.0.0.1",
            "verb": "seal",
            "outcome": "ok",
            "ms": 1.5,
        }
    ]


def test_what_a_peer_says_stays_one_line(tmp_path: Path) -> None:
    """Nobody writes a line of their own into the log."""
    log = AuditLog(str(tmp_path / "audit.log"))
    _write(log, peer='x\n{"outcome": "ok"}\x1b[2J')
    log.close()
    (line,) = (tmp_path / "audit.log").read_bytes().splitlines()
    assert b"\x1b" not in line
    assert json.loads(line)["peer"].startswith("x\n")


def test_lines_of_several_writers_are_whole(tmp_path: Path) -> None:
    """Two logs on one file, as two workers have it, with four threads each."""
    logs = [AuditLog(str(tmp_path / "audit.log")) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _write(logs[number % 2], peer=str(number)), range(400)))
    assert sorted(int(line["peer"]) for line in read_audit(tmp_path)) == list(range(400))


def test_reopening_follows_the_name(tmp_path: Path) -> None:
    """What came before stays in the renamed file; where the name cannot be opened, the old file goes on."""
    path = tmp_path / "audit.log"
    log = AuditLog(str(path))
    _write(log, peer="1")
    path.rename(tmp_path / "old.log")
    log.reopen()
    _write(log, peer="2")
    path.rename(tmp_path / "older.log")
    path.mkdir()
    with pytest.raises(DeviceError, match="the audit log"):
        log.reopen()
    _write(log, peer="3")
    assert len((tmp_path / "old.log").read_text(encoding="utf-8").splitlines()) == 1
    assert len((tmp_path / "older.log").read_text(encoding="utf-8").splitlines()) == 2


def test_a_line_that_cannot_be_written_is_an_error() -> None:
    """A full disk is told to whoever wanted to give a key out."""
    with pytest.raises(DeviceError, match="No space left"):
        _write(AuditLog("/dev/full"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Somebody else's file is not written to by way of the log."""
    os.symlink(tmp_path / "elsewhere", tmp_path / "audit.log")
    with pytest.raises(DeviceError):
        AuditLog(str(tmp_path / "audit.log"))
    assert not (tmp_path / "elsewhere").exists()
