"""The hook's unit is done when its volume is open, and not when the last thread of its process has ended."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.boot import hook
from luksctl.errors import Locked
from luksctl.node.report import Report, VolumeState


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)  # the method's own
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def _ends(monkeypatch: pytest.MonkeyPatch, outcome: Report | Exception) -> None:
    def run(_: list[str]) -> Report:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(hook, "_run", run)


OPEN = Report("STATE", VolumeState.OPEN, device="/dev/mapper/luks2-STATE")


def test_an_open_volume_is_told_at_once(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is mounted then, whatever still runs in the process."""
    _ends(monkeypatch, OPEN)
    assert hook.run(["STATE"]) == 0
    assert manager.recv(100) == b"READY=1"


def test_a_volume_that_did_not_open_is_not_told(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the unit fails by its exit code, and its mount is not tried."""
    _ends(monkeypatch, Locked("no configured key opens it", volume="STATE"))
    assert hook.run(["STATE"]) == Locked.exit_code
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first byte of such a name is written as an @."""
    _ends(monkeypatch, OPEN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0luksctl-test-readiness")
        monkeypatch.setenv("NOTIFY_SOCKET", "@luksctl-test-readiness")
        assert hook.run(["STATE"]) == 0
        assert listening.recv(100) == b"READY=1"


def test_who_cannot_be_told_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The volume is open all the same."""
    _ends(monkeypatch, OPEN)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert hook.run(["STATE"]) == 0
    assert "<4>systemd could not be told" in capsys.readouterr().err


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An older unit file waits for the end of the process."""
    _ends(monkeypatch, OPEN)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert hook.run(["STATE"]) == 0
    assert "<4>" not in capsys.readouterr().err
