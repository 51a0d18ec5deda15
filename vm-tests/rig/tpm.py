"""The guest's TPM: swtpm, on the state that the machine keeps, and a relay that can hold its answers back."""

from __future__ import annotations

import select
import shutil
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rig.errors import LostVM
from rig.process import SOCKET_TIMEOUT_S, spawn, stop, tail

if TYPE_CHECKING:
    import subprocess

    from rig.spec import Places

# TPM 2.0 Library, part 2, table of TPM_CC.
CREATE_PRIMARY = 0x131
_HEAD_BYTES = 10
_CHUNK = 65536


def start_tpm(places: Places) -> subprocess.Popen[bytes]:
    """Start a TPM on the guest's TPM state, and wait for its socket."""
    places.tpm.mkdir(exist_ok=True)
    places.tpm_socket.unlink(missing_ok=True)
    argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={places.tpm}"]
    argv += ["--ctrl", f"type=unixio,path={places.tpm_socket}", "--flags", "startup-clear", "--terminate"]
    process = spawn(argv, places.directory / "tpm.log")
    deadline = time.monotonic() + SOCKET_TIMEOUT_S
    while not places.tpm_socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            raise LostVM(f"swtpm did not come up\n{tail(places.directory / 'tpm.log')}")
        time.sleep(0.01)
    return process


def replace_tpm(places: Places) -> None:
    """Forget the TPM's state: the next power-on finds another TPM on the board."""
    shutil.rmtree(places.tpm)


class Relay:
    """Stand between QEMU and its TPM, and hold back the answers to some commands for as long as a story wants.

    QEMU's control channel goes on meanwhile, as the registers of a TPM do that is merely slow; a swtpm that is stopped
    would stop the whole guest with the first question about it.
    """

    def __init__(self, places: Places) -> None:
        """Listen where QEMU looks for the TPM."""
        self._places = places
        self._held: frozenset[int] = frozenset()
        self._let_go = threading.Event()
        self._let_go.set()
        places.tpm_relay.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(places.tpm_relay))
        self._listener.listen(1)
        self._sockets = [self._listener]
        threading.Thread(target=self._serve, daemon=True).start()

    def hold(self, *commands: int) -> None:
        """Hold back the answers to these commands from now on."""
        self._held = frozenset(commands)
        self._let_go.clear()

    def release(self) -> None:
        """Give all answers that were held back, and hold back none any more."""
        self._held = frozenset()
        self._let_go.set()

    def close(self) -> None:
        """End the relay."""
        self.release()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed by one of both, or by us
            qemu, _ = self._listener.accept()
            tpm = socket.socket(socket.AF_UNIX)
            self._sockets += [qemu, tpm]
            tpm.connect(str(self._places.tpm_socket))
            while True:
                ready, _, _ = select.select([qemu, tpm], [], [])
                if tpm in ready:
                    qemu.sendall(_some(tpm.recv(_CHUNK)))
                if qemu in ready:
                    self._control(qemu, tpm)

    def _control(self, qemu: socket.socket, tpm: socket.socket) -> None:
        """Pass on what QEMU says, and instead of the channel that it opens for commands one that we listen to."""
        said, descriptors, _, _ = socket.recv_fds(qemu, _CHUNK, 1)
        if not descriptors:
            tpm.sendall(_some(said))
            return
        outer = socket.socket(fileno=descriptors[0])
        inner, given = socket.socketpair()
        self._sockets += [outer, inner]
        with given:
            socket.send_fds(tpm, [said], [given.fileno()])
        threading.Thread(target=self._commands, args=(outer, inner), daemon=True).start()

    def _commands(self, outer: socket.socket, inner: socket.socket) -> None:
        with suppress(OSError):
            while True:
                command = _message(outer)
                inner.sendall(command)
                answer = _message(inner)
                if int.from_bytes(command[6:_HEAD_BYTES]) in self._held:
                    self._let_go.wait()
                outer.sendall(answer)


def _message(source: socket.socket) -> bytes:
    """Return one command or answer: tag, size of all of it, code, parameters."""
    message = b""
    wanted = _HEAD_BYTES
    while len(message) < wanted:
        message += _some(source.recv(wanted - len(message)))
        if len(message) == _HEAD_BYTES:
            wanted = int.from_bytes(message[2:6])
    return message


def _some(content: bytes) -> bytes:
    if not content:
        raise OSError("closed")
    return content
