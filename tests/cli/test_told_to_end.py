"""luksctl that is told to end while a program of it runs: the program ends with it, and what was announced is done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from luksctl.devices.medium import is_zero
from luksctl.meta.store import AdvStore
from luksctl.model.intent import ResetIntent
from tests.cli.desk import PASSPHRASE, Desk

_VERB = """
import sys
from pathlib import Path
from luksctl.cli.main import main
from tests.cli.desk import paths_in

directory = Path(sys.argv.pop(1))
sys.exit(main(("--settings", str(directory / "luksctl.yaml"), *sys.argv[1:]), paths_in(directory)))
"""
_HOOK = "#!/bin/sh\ntrap '' TERM INT HUP\necho $$ > {pid}.new\nmv {pid}.new {pid}\nexec sleep 600\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_reset_goes_on_after_it_was_ended_in_a_hook(desk: Desk, number: signal.Signals) -> None:
    """The hook, which ignores every signal, is gone; META announces the reset, and the next boot does it."""
    desk.format("ephemeral", slots={0: PASSPHRASE})
    image, pid = desk.path("ephemeral"), desk.directory / "pid"
    before = image.read_bytes()
    hook = Path(desk.paths.reset_hooks) / "10-drain"
    hook.parent.mkdir()
    hook.write_text(_HOOK.format(pid=pid), encoding="utf-8")
    hook.chmod(0o755)
    words = ("reset", "--system-labels-to-wipe", "EPHEMERAL", "--yes", "--json")
    command = [sys.executable, "-c", _VERB, str(desk.directory), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not pid.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, json.loads(out)["error"]) == (130, "Interrupted")
    else:
        assert (process.returncode, out) == (-number, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    store = AdvStore(str(desk.path("meta")), f"{desk.path('meta')}.lock")
    assert isinstance(store.load().record.intent("EPHEMERAL"), ResetIntent)
    assert image.read_bytes() == before
    desk.run("boot", "EPHEMERAL")
    assert is_zero(str(image), image.stat().st_size)
    assert store.load().record.intents == ()
