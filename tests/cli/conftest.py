"""Fixtures of the command line tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.desk import Desk
from tests.cli.reached import Nodes
from tests.cli.sshd import Server, server


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Return a machine of blank image files."""
    return Desk(tmp_path, capsys)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """Return where a person sits, and the name of the terminal in front of them."""
    person, behind = os.openpty()
    yield person, os.ttyname(behind)
    os.close(person)
    os.close(behind)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that all tests here share; each adds hosts of its own."""
    with server(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture
def nodes(
    running: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Nodes:
    """Return a place for machines, with the client told how to reach them."""
    monkeypatch.setenv("LUKSCTL_SSH", running.ssh)
    monkeypatch.chdir(tmp_path)
    return Nodes(running, tmp_path, capsys)
