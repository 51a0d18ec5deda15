"""What must be encrypted is recorded once, and a record that cannot be understood means everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.model.config import EPHEMERAL, STATE, EncryptionPolicy
from luksctl.model.desired import DesiredVolume
from luksctl.node.expected import expected_encrypted, expected_is_readable, expecting, write_expected
from luksctl.node.node import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Return paths whose record is in a directory of the test."""
    return Paths(expected_encrypted=str(tmp_path / "expected.json"))


def test_without_a_record_nothing_is_expected(paths: Paths) -> None:
    """A node that was never enabled mounts what its config says."""
    assert expected_encrypted(paths) == frozenset()
    assert expected_is_readable(paths)


def test_the_record_comes_back(paths: Paths) -> None:
    """Exactly the volumes that were recorded, and the wish for each says so."""
    write_expected(paths.expected_encrypted, [STATE])
    assert expected_encrypted(paths) == {STATE}
    assert expecting(paths, DesiredVolume(STATE, None, EncryptionPolicy())).expect_encrypted
    assert not expecting(paths, DesiredVolume(EPHEMERAL, None, EncryptionPolicy())).expect_encrypted


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"version": 2, "encrypted": []}',
        b'{"version": 1}',
        b'{"version": 1, "encrypted": [1]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_record_that_cannot_be_understood_means_everything(paths: Paths, text: bytes) -> None:
    """Nothing plain is mounted then, and the file is known to be wrong."""
    Path(paths.expected_encrypted).write_bytes(text)
    assert expected_encrypted(paths) == {STATE, EPHEMERAL}
    assert not expected_is_readable(paths)
