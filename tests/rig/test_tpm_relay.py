"""The relay before the guest's TPM: it passes everything on, and holds back what a story names."""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.process import stop
from rig.spec import Places
from rig.tpm import Relay, start_tpm

from tests.providers.swtpm import require_swtpm

# What QEMU says on the control channel (tpm_ioctl.h of swtpm), and two commands of a guest.
INIT, SET_DATAFD = 0x2, 0x10
STARTUP, GET_RANDOM = 0x144, 0x17B
SHORT_S, LONG_S = 0.05, 30.0


@pytest.fixture
def places() -> Iterator[Places]:
    """Return where a guest's sockets are; their paths are short, and pytest's directories are not."""
    require_swtpm()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (vm-tests/packages.txt)")
    with tempfile.TemporaryDirectory(prefix="rig-") as directory:
        yield Places(Path(directory))


@pytest.fixture
def relay(places: Places) -> Iterator[Relay]:
    """Return a relay before a TPM."""
    process = start_tpm(places)
    between = Relay(places)
    yield between
    between.close()
    stop(process)


@pytest.fixture
def guest(places: Places, relay: Relay) -> Iterator[socket.socket]:  # noqa: ARG001  # it listens
    """Return the channel of a guest's commands, opened as QEMU opens it."""
    ours, given = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as control, ours, given:
        control.settimeout(LONG_S)
        control.connect(str(places.tpm_relay))
        socket.send_fds(control, [struct.pack(">I", SET_DATAFD)], [given.fileno()])
        assert control.recv(4) == bytes(4)
        control.sendall(struct.pack(">II", INIT, 0))
        assert control.recv(4) == bytes(4)
        ours.settimeout(LONG_S)
        assert ask(ours, STARTUP)[1] == 0
        yield ours


def ask(guest: socket.socket, code: int) -> tuple[int, int]:
    """Send a command with one number as its parameter; return the size and the code of the answer."""
    send(guest, code)
    return answer(guest)


def send(guest: socket.socket, code: int) -> None:
    guest.sendall(struct.pack(">HIIH", 0x8001, 12, code, 8 if code == GET_RANDOM else 0))


def answer(guest: socket.socket) -> tuple[int, int]:
    content = guest.recv(4096)
    _, size, code = struct.unpack(">HII", content[:10])
    assert size == len(content)
    return size, code


def test_commands_are_answered_by_the_tpm(guest: socket.socket) -> None:
    """Eight random bytes, as often as they are asked for."""
    assert [ask(guest, GET_RANDOM) for _ in range(3)] == [(20, 0)] * 3


def test_an_answer_is_held_back_until_it_is_let_go(guest: socket.socket, relay: Relay) -> None:
    """Nothing comes before, and everything after; other commands are answered meanwhile."""
    relay.hold(GET_RANDOM)
    assert ask(guest, STARTUP)[0] == 10
    send(guest, GET_RANDOM)
    guest.settimeout(SHORT_S)
    with pytest.raises(TimeoutError):
        guest.recv(1)
    guest.settimeout(LONG_S)
    relay.release()
    assert answer(guest) == (20, 0)
    assert ask(guest, GET_RANDOM) == (20, 0)
