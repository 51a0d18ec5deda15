"""What STATE remembers of PCRs at sealing: it only explains, and never stands in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luksctl.node.sealed_pcrs import FILE_NAME, StateSealedPcrs

POLICY, VALUES = bytes(range(32)), {7: b"\x07" * 32, 11: b"\x0b" * 32}


def store(directory: Path | None, told: list[str] | None = None, run: Path = Path("/nowhere")) -> StateSealedPcrs:
    """Return the store of a STATE that is mounted there; what waits for one is in `run`."""
    lines: list[str] = [] if told is None else told
    return StateSealedPcrs(lambda: None if directory is None else str(directory), str(run / FILE_NAME), lines.append)


def test_what_was_noted_is_recalled_by_who_comes_later(tmp_path: Path) -> None:
    """By policy; the latest values of one count."""
    store(tmp_path).note(POLICY, {7: bytes(32)})
    store(tmp_path).note(b"\xff" * 32, VALUES)
    store(tmp_path).note(POLICY, VALUES)
    assert store(tmp_path).recall(POLICY) == VALUES
    assert store(tmp_path).recall(bytes(32)) is None
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    """The oldest go."""
    for number in range(70):
        store(tmp_path).note(number.to_bytes(32, "big"), VALUES)
    assert store(tmp_path).recall(bytes(32)) is None
    assert store(tmp_path).recall((69).to_bytes(32, "big")) == VALUES
    assert len(json.loads((tmp_path / FILE_NAME).read_text())["sealed"]) == 64


def test_what_was_noted_before_there_was_a_state_waits_for_it(tmp_path: Path) -> None:
    """The first key of STATE itself is made before there is one; beside what STATE knows already, and once."""
    run, state, other = tmp_path / "run", tmp_path / "state", b"\xff" * 32
    run.mkdir()
    state.mkdir()
    store(None, run=run).note(POLICY, VALUES)
    store(None, run=run).note(other, {7: bytes(32)})
    assert store(None, run=run).recall(POLICY) is None
    store(None, run=run).take_over()
    store(state, run=run).note(other, VALUES)
    store(state, run=run).take_over()
    assert store(state, run=run).recall(POLICY) == VALUES
    assert store(state, run=run).recall(other) == {7: bytes(32)}
    assert list(run.iterdir()) == []


def test_a_waiting_file_that_is_damaged_costs_no_boot(tmp_path: Path) -> None:
    """It goes, and what STATE knows stays."""
    run, state = tmp_path / "run", tmp_path / "state"
    run.mkdir()
    state.mkdir()
    store(state).note(POLICY, VALUES)
    (run / FILE_NAME).write_bytes(b"[")
    store(state, run=run).take_over()
    assert store(state).recall(POLICY) == VALUES
    assert list(run.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b"[]",
        b'{"version": 2, "sealed": []}',
        b'{"version": 1}',
        b'{"version": 1, "sealed": [1]}',
        json.dumps({"version": 1, "sealed": [{"policy": POLICY.hex()}]}).encode(),
        json.dumps({"version": 1, "sealed": [{"policy": POLICY.hex(), "pcrs": {"x": "zz"}}]}).encode(),
        json.dumps({"version": 1, "sealed": [{"policy": POLICY.hex(), "pcrs": []}]}).encode(),
    ],
)
def test_what_cannot_be_understood_counts_as_not_noted(tmp_path: Path, content: bytes) -> None:
    """And the next note begins anew."""
    (tmp_path / FILE_NAME).write_bytes(content)
    assert store(tmp_path).recall(POLICY) is None
    store(tmp_path).note(POLICY, VALUES)
    assert store(tmp_path).recall(POLICY) == VALUES


def test_a_state_that_takes_no_file_is_told(tmp_path: Path) -> None:
    """The key was made all the same."""
    told: list[str] = []
    store(tmp_path / "gone", told).note(POLICY, VALUES)
    assert "a later mismatch will not name the old values" in told[0]
