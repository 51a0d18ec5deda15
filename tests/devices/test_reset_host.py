"""What a reset asks of the running machine: hooks in order, who keeps a mount busy, and programs that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.devices.reset_host import ResetHost
from luksctl.errors import DeviceError


def test_hooks_are_the_programs_of_the_directory_in_order(tmp_path: Path) -> None:
    """Neither hidden files, nor directories, nor what is not executable; and none without the directory."""
    for name, mode in (("20-b", 0o755), ("10-a", 0o700), ("15-text", 0o644), (".hidden", 0o755)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "30-directory").mkdir()
    assert ResetHost().hooks(str(tmp_path)) == (str(tmp_path / "10-a"), str(tmp_path / "20-b"))
    assert ResetHost().hooks(str(tmp_path / "none")) == ()


def test_a_hook_gets_the_volumes_and_its_failure_is_an_error(tmp_path: Path) -> None:
    """Its own words are in it, and one that hangs is ended."""
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/seen\n[ "$1" = STATE ] || {{ echo why >&2; exit 3; }}\n')
    hook.chmod(0o755)
    ResetHost().run_hook(str(hook), ("STATE", "EPHEMERAL"), 30)
    assert (tmp_path / "seen").read_text() == "STATE EPHEMERAL\n"
    with pytest.raises(DeviceError, match="why"):
        ResetHost().run_hook(str(hook), ("EPHEMERAL",), 30)
    hook.write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(DeviceError):
        ResetHost().run_hook(str(hook), (), 0.2)


def test_who_has_something_open_is_named(tmp_path: Path) -> None:
    """By process, command, and what it holds; processes that hold nothing there are not."""
    proc = tmp_path / "proc"
    held = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=tmp_path)
    try:
        (proc / str(held.pid)).mkdir(parents=True)
        (proc / str(held.pid) / "comm").write_text("holder\n")
        (proc / str(held.pid) / "cwd").symlink_to(tmp_path)
        (proc / "999999").mkdir()
        (proc / "999999" / "cwd").symlink_to("/proc")
        (proc / "self").mkdir()
        users = ResetHost(str(proc)).users(str(tmp_path))
        assert [(user.pid, user.command, user.path) for user in users] == [(held.pid, "holder", str(tmp_path))]
        if os.geteuid() == 0:
            assert held.pid in [user.pid for user in ResetHost().users(str(tmp_path))]
    finally:
        held.communicate(b"\n")
    assert ResetHost(str(proc)).users(str(tmp_path / "none")) == ()
