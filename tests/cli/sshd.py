"""OpenSSH's server on loopback, with keys of its own, and machines of image files behind it."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.house.tree import ROOT

_SERVER: Final = "/usr/sbin/sshd"
_SERVER_CONFIG: Final = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PermitUserEnvironment yes
AuthorizedKeysFile {directory}/authorized
"""
_HOST: Final = """\
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {directory}/{name}
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known
"""


class Server:
    """The server, and what its client has to know: `ssh` is the command of that."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.config = directory / "client"
        self.config.touch()
        self.ssh = f"ssh -F {self.config}"
        self._keygen("host")
        public = (directory / "host.pub").read_text(encoding="ascii")
        (directory / "known").write_text(f"[127.0.0.1]:{port} {public}", encoding="ascii")

    def add_host(self, name: str, node: Path, role: str | None = None) -> None:
        """Let `name` be the machine whose files are in `node`, for a key with a role, or one that may do anything."""
        self._keygen(name)
        command = [sys.executable, "-m", "tests.cli.there", str(node)]
        if role is None:
            programs = self.directory / f"{name}.bin"
            programs.mkdir()
            script = programs / "luksctl"
            words = f'printf "%s\\n" "$@" >>{shlex.quote(str(node / "argv"))}\n'
            script.write_text(f'#!/bin/sh\ncd {ROOT}\n{words}exec {shlex.join(command)} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
            options = f'environment="PATH={programs}:/usr/bin:/bin"'
        else:
            options = f'restrict,command="cd {ROOT} && exec {shlex.join(command)} --role {role}"'
        public = (self.directory / f"{name}.pub").read_text(encoding="ascii")
        with (self.directory / "authorized").open("a", encoding="ascii") as keys:
            keys.write(f"{options} {public}")
        self._write_host(name)

    def add_stranger(self, name: str) -> None:
        """Let `name` be a host at which nobody listens."""
        self._write_host(name, port=1)

    def _write_host(self, name: str, port: int | None = None) -> None:
        entry = _HOST.format(name=name, port=port or self.port, user=getpass.getuser(), directory=self.directory)
        with self.config.open("a", encoding="ascii") as config:
            config.write(entry)

    def _keygen(self, name: str) -> None:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.directory / name)], check=True
        )


@contextmanager
def server(directory: Path) -> Iterator[Server]:
    """Run a server with its files in `directory`."""
    if not os.access(_SERVER, os.X_OK):
        if os.environ.get("CI"):
            raise AssertionError(f"{_SERVER} is not installed")
        pytest.skip(f"{_SERVER} is not installed: make packages")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # compiled in, and made by its service otherwise
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    made = Server(directory, port)
    config = directory / "server"
    config.write_text(_SERVER_CONFIG.format(port=port, directory=directory), encoding="ascii")
    with subprocess.Popen([_SERVER, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True) as process:
        try:
            _await(process, port)
            yield made
        finally:
            process.terminate()
            process.communicate()


def _await(process: subprocess.Popen[str], port: int) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("sshd does not listen")
