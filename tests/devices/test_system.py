"""What the running machine says about itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.devices.system import RunningSystem
from luksctl.devices.tree import BlockTree


@pytest.mark.parametrize(
    ("meminfo", "available_kib"),
    [
        ("MemTotal:         477424 kB\nMemFree:           10000 kB\nMemAvailable:     301244 kB\n", 301244),
        ("MemTotal:         477424 kB\nMemFree:           10000 kB\n", None),
        ("", None),
        ("nothing that anybody knows\nMemAvailable:\n", None),
    ],
)
def test_available_memory_is_what_the_kernel_says(tmp_path: Path, meminfo: str, available_kib: int | None) -> None:
    """MemAvailable, in KiB; a kernel that says nothing gives None, and no number made up."""
    path = tmp_path / "meminfo"
    path.write_text(meminfo)
    assert RunningSystem(BlockTree(), meminfo_path=str(path)).available_memory_kib() == available_kib


def test_no_meminfo_is_no_failure(tmp_path: Path) -> None:
    """Where /proc is not mounted yet, nobody is kept from opening."""
    assert RunningSystem(BlockTree(), meminfo_path=str(tmp_path / "gone")).available_memory_kib() is None


def test_this_machine_has_less_available_than_it_has() -> None:
    """Both are KiB."""
    system = RunningSystem(BlockTree())
    available_kib = system.available_memory_kib()
    assert available_kib is not None
    assert 0 < available_kib <= system.memory_kib()
