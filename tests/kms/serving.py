"""A real server on loopback: in this process, or as `luksctl kms serve` in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc

from luksctl.kms.address import Address
from luksctl.kms.admission import read_rules
from luksctl.kms.audit import AuditLog
from luksctl.kms.backend import Backend
from luksctl.kms.board import Board
from luksctl.kms.envelope import KeyringBackend
from luksctl.kms.grpc_server import make_server
from luksctl.kms.keyfile import Costs
from luksctl.kms.keyring import Keyring
from luksctl.kms.limit import RateLimit
from luksctl.kms.notebook import Notebook
from luksctl.kms.room import Kms
from luksctl.kms.service import Parts, Service
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.kms.tls import Credentials
from luksctl.model.kms import Enrolment, NodeState, TlsFiles
from luksctl.model.kms_wire import SEAL, UNSEAL, decode_response, encode_request
from luksctl.secret import Secret
from tests.house.tree import ROOT
from tests.kms.pki import Authority, Pair

CHEAP = Costs(memory_kib=8, time=1, lanes=1)
PASSPHRASE = b"a passphrase for tests"
NODE = "4d61726b-6572-2d55-5549-442d31663963"
OTHER = "0f0e0d0c-0b0a-4909-8807-060504030201"
KEY = b"0123456789abcdef0123456789abcdef"
DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: data, or the status and its text."""

    data: bytes | None
    code: grpc.StatusCode | None = None
    details: str = ""

    @property
    def granted(self) -> bytes:
        """Return the data of an answer that was given."""
        assert self.data is not None, (self.code, self.details)
        return self.data


class Client:
    """Calls by bytes; one connection until `close`."""

    metadata: tuple[tuple[str, str], ...] = ()

    def __init__(self, target: str, roots: bytes | None, certificate: Pair | None = None) -> None:
        # A channel of its own: gRPC shares connections between channels that look alike.
        options = [("grpc.use_local_subchannel_pool", 1)]
        if roots is None:
            self.channel = grpc.insecure_channel(target, options)
        else:
            pair = (None, None) if certificate is None else (certificate.key, certificate.certificate)
            self.channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots, *pair), options)

    def raw(self, method: str, wire: bytes) -> Reply:
        """Send `wire` as it is, and return the Response as bytes."""
        try:
            return Reply(self.channel.unary_unary(method, None, None)(wire, timeout=DEADLINE_S, metadata=self.metadata))
        except grpc.RpcError as error:
            return Reply(None, error.code(), error.details() or "")

    def call(self, method: str, uuid: str, data: bytes) -> Reply:
        """Send a Request, and return the data of the Response."""
        reply = self.raw(method, encode_request(uuid, data))
        return reply if reply.data is None else Reply(bytes(decode_response(reply.data)))

    def seal(self, uuid: str = NODE, data: bytes = KEY) -> Reply:
        """Seal."""
        return self.call(SEAL, uuid, data)

    def unseal(self, sealed: bytes, uuid: str = NODE) -> Reply:
        """Unseal."""
        return self.call(UNSEAL, uuid, sealed)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


@dataclass
class Serving:
    """A server in this process, with what it works with."""

    directory: Path
    authority: Authority
    store: SqliteNodes
    board: Board
    service: Service
    notebook: Notebook
    target: str
    clients: list[Client] = field(default_factory=list)

    def client(self, certificate: Pair | None = None) -> Client:
        """Return a client with a connection of its own."""
        made = Client(self.target, self.authority.certificate, certificate)
        self.clients.append(made)
        return made

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit log."""
        return read_audit(self.directory)

    def outcomes(self) -> list[str]:
        """Return how calls ended, in their order."""
        return [line["outcome"] for line in self.audit()]


def read_audit(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of the audit log in `directory`."""
    return [json.loads(line) for line in (directory / "audit.log").read_text(encoding="utf-8").splitlines()]


@contextmanager
def serving(
    directory: Path,
    *,
    enrolment: Enrolment | None = None,
    client_ca: bool = False,
    backend: Backend | None = None,
    rate: float = 0.0,
    burst: int = 1,
    token: bytes | None = None,
) -> Iterator[Serving]:
    """Serve in this process."""
    authority, board = Authority(), Board(1)
    tls = TlsFiles(*authority.server().write(directory, "server"))
    if client_ca:
        (directory / "clients.crt").write_bytes(authority.certificate)
        tls = TlsFiles(tls.certificate, tls.private_key, str(directory / "clients.crt"))
    store = SqliteNodes(str(directory), create=True)
    notebook = Notebook(store, board.row(0).dropped)
    parts = Parts(
        KeyringBackend(Keyring.new(0)) if backend is None else backend,
        store,
        read_rules(enrolment or Enrolment(), certificates=client_ca, token=token),
        AuditLog(str(directory / "audit.log")),
        board.row(0),
        RateLimit(rate, burst),
        notebook,
    )
    service = Service(parts)
    server, port = make_server(service, Address("127.0.0.1", 0), Credentials(tls))
    server.start()
    running = Serving(directory, authority, store, board, service, notebook, f"127.0.0.1:{port}")
    try:
        yield running
    finally:
        for client in running.clients:
            client.close()
        server.stop(None).wait()
        store.close()
        parts.audit.close()


def allow(directory: Path, *uuids: str, state: NodeState = NodeState.ALLOWED) -> None:
    """Give nodes a state, as the operator does."""
    Kms(CHEAP).change_nodes(str(directory), uuids, state, note=None, new_certificate=False)


def initialise(directory: Path) -> None:
    """Make a KMS whose passphrase costs nothing to try."""
    with Secret.take(PASSPHRASE) as passphrase:
        Kms(CHEAP).initialise(str(directory), passphrase)


class ServerProcess:
    """`luksctl kms serve`, until the `with` ends."""

    def __init__(self, directory: Path, *options: str, passphrase: bytes = PASSPHRASE) -> None:
        self.directory = directory
        self.said = ""
        read, write = os.pipe()
        os.write(write, passphrase)
        os.close(write)
        command = (sys.executable, "-m", "luksctl", "kms", "serve", "--dir", str(directory))
        ports = ("--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0", "--rate", "0")
        self.process = subprocess.Popen(
            (*command, *ports, "--passphrase-fd", str(read), *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[read],
            cwd=ROOT,
            text=True,
        )
        os.close(read)

    def __enter__(self) -> Self:
        found = self.hear(r"serving on (\S+) .* on (http://\S+)$")
        self.target, self.status = found.groups()
        return self

    def hear(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which the pattern is."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if found := re.search(pattern, line):
                return found
        self.process.wait(DEADLINE_S)
        raise AssertionError(self.said)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.finish()

    def finish(self) -> int:
        """Wait for the end, and return the exit code; what was said is in `said`."""
        try:
            out, err = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.said += out + err
        return self.process.returncode

    def kill(self) -> None:
        """Kill the first process, and wait until no other one of the server is left."""
        self.process.send_signal(signal.SIGKILL)
        self.finish()  # the pipes end when the last process that holds them has ended

    def client(self) -> Client:
        """Return a client that trusts the pair the server made; plain text where it made none."""
        path = self.directory / "self-signed.crt"
        return Client(self.target, path.read_bytes() if path.exists() else None)

    def starts(self) -> int:
        """Return how often workers were started."""
        return int(metric(self.status, "luksctl_kms_worker_starts_total"))

    def children(self) -> Sequence[int]:
        """Return the process ids of the workers and the watcher."""
        task = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(word) for word in Path(task).read_text(encoding="ascii").split()]


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that will; the test's own timeout is far behind."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def get(url: str) -> tuple[int, str]:
    """Return the status and the text of what is served there."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:  # noqa: S310  # the server's own address
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(status: str, name: str) -> float:
    """Return a number of /metrics that has no labels."""
    _, text = get(f"{status}/metrics")
    return next(float(line.split(" ")[1]) for line in text.splitlines() if line.startswith(f"{name} "))
