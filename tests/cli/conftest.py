"""Fixtures of the command line tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.desk import Desk


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
