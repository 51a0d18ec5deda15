"""What the running machine says about itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from luksctl.devices.system import RunningSystem
from luksctl.devices.tree import BlockTree
from luksctl.errors import DeviceError


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


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_that_a_service_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool) -> None:
    """By the socket that it named, a file or an abstract address."""
    name = f"@luksctl-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stream:
        stream.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        RunningSystem(BlockTree()).tell_ready()
        assert stream.recv(100) == b"READY=1"


def test_nobody_is_told_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand there is no socket; one that is gone is an error, since systemd would wait in vain."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    RunningSystem(BlockTree()).tell_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(DeviceError, match="systemd cannot be told"):
        RunningSystem(BlockTree()).tell_ready()


def test_a_boot_has_one_id() -> None:
    """The kernel's."""
    assert RunningSystem(BlockTree()).boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
