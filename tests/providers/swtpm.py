"""A software TPM of one's own for each test: started fresh, with its state in a private directory, ended by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from types import TracebackType

import pytest

from luksctl.hints import Self

_STARTED_WITHIN_S = 20
# What is expected to fail is not to be written to standard error; the library reads this once.
os.environ.setdefault("TSS2_LOG", "all+NONE")


def require_swtpm() -> str:
    """Return the path of swtpm; without it the test is skipped, and fails on a build machine."""
    path = shutil.which("swtpm")
    if path is None:
        reason = "swtpm is not installed (.ci/packages.txt)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Swtpm:
    """One TPM; `tcti` is how to reach it. Its state outlives `power_off`."""

    def __init__(self) -> None:
        self._program = require_swtpm()
        # The path of a Unix socket is short, and pytest's directories are not.
        self._directory = tempfile.mkdtemp(prefix="luksctl-tpm-")
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = os.path.join(self._directory, "s")
        self.tcti = f"swtpm:path={self.socket}"

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_off()
        shutil.rmtree(self._directory)

    def power_on(self) -> None:
        """Start it as firmware does: PCRs as after a reset, seeds and counters as they were."""
        self._process = subprocess.Popen(
            [
                self._program,
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self._directory}",
                "--server",
                f"type=unixio,path={self.socket}",
                "--ctrl",
                f"type=unixio,path={self.socket}.ctrl",
                "--flags",
                "not-need-init,startup-clear",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while not (_answers(self.socket) and _answers(f"{self.socket}.ctrl")):
            assert self._process.poll() is None, "swtpm ended at once"
            assert time.monotonic() < deadline, "swtpm did not start"
            time.sleep(0.002)

    def power_off(self) -> None:
        """Kill it, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for path in (self.socket, f"{self.socket}.ctrl"):
            if os.path.exists(path):
                os.unlink(path)

    def restart(self) -> None:
        """Turn the machine off and on again."""
        self.power_off()
        self.power_on()

    @property
    def is_off(self) -> bool:
        """Tell whether nobody turned it on again."""
        return self._process is None

    def freeze(self) -> None:
        """Make it hang until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _answers(path: str) -> bool:
    """Tell whether somebody takes connections at `path`; the file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True
