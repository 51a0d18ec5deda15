"""A program that runs when luksctl is told to end: killed and waited for first, whatever it makes of signals itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luksctl.devices import programs
from luksctl.devices.programs import run
from luksctl.errors import DeviceError

_RUN = """
import signal, sys
from luksctl.devices.programs import run
# The tests themselves may run under nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
{before}
run(["/bin/sh", "-c", sys.argv[1]], timeout_s=60)
print("went on")
"""
_STUBBORN = "trap '' TERM HUP; echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600"


def started(pid: Path, script: str = _STUBBORN, before: str = "") -> subprocess.Popen[str]:
    """Start a process that runs `script`, and return once that runs."""
    words = [sys.executable, "-c", _RUN.format(before=before), script.format(pid=pid)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not pid.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


def gone(pid: Path) -> bool:
    """Tell whether the program is no process any more."""
    try:
        os.kill(int(pid.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_told_to_end_takes_its_program_along(tmp_path: Path, number: signal.Signals) -> None:
    """The program ignores the signal; it is gone by the time that we are, and we die as we would have."""
    pid = tmp_path / "pid"
    process = started(pid)
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -number
    assert gone(pid)


def test_who_ignores_a_signal_goes_on(tmp_path: Path) -> None:
    """That is what nohup is for."""
    pid, go_on = tmp_path / "pid", tmp_path / "go on"
    script = f"echo $$ > {{pid}}.new; mv {{pid}}.new {{pid}}; until [ -e '{go_on}' ]; do sleep 0.01; done"
    process = started(pid, script, "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    go_on.touch()
    assert process.communicate(timeout=60) == ("went on\n", "")
    assert process.returncode == 0


def test_who_has_an_answer_of_its_own_gives_it_afterwards(tmp_path: Path) -> None:
    """As `luksctl reencrypt --resume`, which leaves all in order."""
    pid = tmp_path / "pid"
    process = started(pid, before="signal.signal(signal.SIGTERM, lambda *_: sys.exit('in order'))")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", "in order\n")
    assert process.returncode == 1
    assert gone(pid)


def test_signals_are_as_before_afterwards() -> None:
    """Also where the program failed."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    run(["/bin/true"], timeout_s=60)
    with pytest.raises(DeviceError, match="exited with 1"):
        run(["/bin/false"], timeout_s=60)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


def test_children_of_a_program_keep_nobody_waiting(tmp_path: Path) -> None:
    """What it started holds its output open, and lives on where it wants to."""
    pid = tmp_path / "pid"
    with pytest.raises(DeviceError, match="was stopped"):
        run(["/bin/sh", "-c", f"sleep 600 & echo $! > {pid}; exec sleep 600"], timeout_s=0.3)
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_one_that_does_not_die_is_told_and_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a disk in the kernel ends when the disk answers: killing it does nothing until then."""
    monkeypatch.setattr(programs, "_DYING_S", 0.2)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess.Popen, "kill", lambda _: None)
        with pytest.raises(DeviceError, match="its disk does not answer") as caught:
            run(["/bin/sleep", "600"], timeout_s=0.1)
    assert caught.value.operation == "sleep"
    (process,) = programs._UNDEAD
    programs._UNDEAD.clear()
    process.kill()
    assert process.wait() == -signal.SIGKILL
