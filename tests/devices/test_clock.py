"""Whether the clock is about to be set, asked of systemd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from luksctl.devices import clock
from luksctl.errors import DeviceError


@pytest.mark.parametrize(
    ("said", "awaited"),
    [
        ("NTP=yes\nNTPSynchronized=no\n", True),
        ("NTP=yes\nNTPSynchronized=yes\n", False),
        ("NTP=no\nNTPSynchronized=no\n", False),
        ("", False),
    ],
)
def test_what_timedatectl_says_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, *, awaited: bool
) -> None:
    """It is worth waiting only where a service is on and has not come to an end yet."""
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str], *, timeout_s: float) -> str:
        assert timeout_s > 0
        asked.append(argv)
        return said

    monkeypatch.setattr(clock, "run", run)
    assert clock.clock_awaited(str(tmp_path / "synchronized")) is awaited
    assert asked[0][0].endswith("/timedatectl")


def test_timesyncd_leaves_a_file_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there once a server has answered."""
    (tmp_path / "synchronized").touch()
    monkeypatch.setattr(clock, "run", None)
    assert clock.clock_awaited(str(tmp_path / "synchronized")) is False


def test_where_nobody_can_be_asked_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus, or no such service."""

    def run(argv: Sequence[str], *, timeout_s: float) -> str:
        raise DeviceError(f"{argv[0]} failed within {timeout_s} s")

    monkeypatch.setattr(clock, "run", run)
    assert clock.clock_awaited(str(tmp_path / "synchronized")) is False
