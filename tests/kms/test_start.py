"""How `luksctl kms serve` begins: what it refuses, what it warns of, where its secrets come from, whom it tells."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from luksctl.cli.main import main
from luksctl.kms.room import Kms, checked, warnings
from luksctl.model.kms import KeyFile, ServeOptions
from luksctl.secret import Secret
from tests.kms.serving import CHEAP, DEADLINE_S, NODE, PASSPHRASE, ServerProcess, allow, initialise


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a KMS with one node that is allowed."""
    initialise(tmp_path)
    allow(tmp_path, NODE)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--no-tls", "--listen", "0.0.0.0:0"), 3, "keys would be readable on the network"),
        (("--enroll", "auto"), 64, "needs bounds"),
        (("--enroll", "auto", "--enroll-from", "10.0.0.0/8"), 64, "needs bounds"),
        (("--enroll-from", "10.0.0.0/8"), 64, "belong to --enroll auto"),
        (("--listen", "localhost:1"), 64, "no address with a port"),
        (("--workers", "0"), 64, "--workers"),
        (("--tls-cert", "x"), 64, "belong together"),
        (("--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"), 13, "No such file"),
        (("--no-tls", "--client-ca", "x"), 64, "client certificates are a part of TLS"),
        (("--compat",), 64, "--compat needs --key FILE"),
        (("--key", "/nonexistent"), 9, "there is no master key"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_served(
    directory: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: int, said: str
) -> None:
    """One error with its code, before any process is started."""
    ports = ("--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0")
    assert main(("kms", "serve", "--dir", str(directory), *ports, *options), kms=lambda: Kms(CHEAP)) == code
    assert said in capsys.readouterr().err


def test_what_is_not_installed_is_named(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to type; before anybody is asked for a passphrase."""
    monkeypatch.setattr("luksctl.kms.room.find_spec", lambda _: None)
    assert main(("kms", "serve", "--dir", str(directory)), kms=Kms) == 9
    assert "pip install 'luksctl[kms]'" in capsys.readouterr().err


def test_a_worker_that_cannot_start_ends_the_server(directory: Path) -> None:
    """It says why, once, and is not started over and over."""
    server = ServerProcess(directory, "--audit", "/nonexistent/audit.log", "--workers", "2")
    assert server.finish() == 9
    assert "/nonexistent/audit.log: No such file or directory" in server.said
    assert "a worker did not start" in server.said
    assert "serving on" not in server.said


def test_a_wrong_passphrase_ends_with_13(directory: Path) -> None:
    """Nothing is served with a key that did not open."""
    server = ServerProcess(directory, passphrase=b"not the passphrase")
    assert server.finish() == 13
    assert "passphrase is wrong" in server.said


def test_a_port_that_somebody_has_is_not_shared(directory: Path) -> None:
    """Two servers on one port would each get a part of the calls."""
    with ServerProcess(directory) as server:
        second = ServerProcess(directory, "--listen", server.target)
        assert second.finish() == 11
        assert "somebody else listens there" in second.said


def test_plain_text_is_for_loopback(directory: Path) -> None:
    """With --no-tls a client without TLS is served there, and it says who could read along."""
    with ServerProcess(directory, "--no-tls") as server:
        client = server.client()
        assert client.seal().data is not None
        client.close()
    assert "whoever can listen on this machine reads the keys" in server.said


def test_what_is_dangerous_is_warned_of() -> None:
    """Plain text that is forced onto the network, any node, UUIDs that are enough, metrics for others."""

    def said(options: ServeOptions) -> str:
        return "\n".join(warnings(checked(options)))

    forced = ServeOptions(listen="0.0.0.0:4050", plaintext=True, force_plaintext=True)
    assert "whoever can listen on the network reads the keys" in said(forced)
    assert "answers ANY node" in said(ServeOptions(compat=True))
    assert "whoever knows the UUID of an allowed node is that node" in said(ServeOptions())
    assert "reachable from other machines" in said(ServeOptions(status_listen="[::]:4051"))
    assert said(ServeOptions(client_ca="clients.crt")) == ""


def test_the_passphrase_may_be_a_credential(directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As systemd gives it; and the key itself, unsealed, where nothing is asked."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "luksctl-kms.passphrase").write_bytes(PASSPHRASE + b"\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    file = KeyFile(str(directory / "master.key"), lambda: Secret.take(PASSPHRASE))
    with Kms(CHEAP).export_key(file) as key, key.view() as view:
        unsealed = bytes(view)
    (credentials / "luksctl-kms.key").write_bytes(unsealed)
    (directory / "master.key").unlink()
    with ServerProcess(directory) as server:
        client = server.client()
        assert client.seal().data is not None
        client.close()


def test_systemd_is_told_when_calls_are_answered(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """READY=1 comes with the first worker, STOPPING=1 with the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with ServerProcess(directory):
            assert receiver.recv(100) == b"READY=1"
        assert receiver.recv(100) == b"STOPPING=1"
