"""`luksctl kms serve` as an operator runs it: processes that are killed, end in order, and share the work."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from luksctl.kms.address import read_address, reserve
from luksctl.kms.room import Kms
from luksctl.model.kms import NodeState
from tests.bench.kms import load_on
from tests.kms.pki import Authority
from tests.kms.serving import (
    KEY,
    NODE,
    OTHER,
    PASSPHRASE,
    Client,
    ServerProcess,
    allow,
    get,
    initialise,
    metric,
    read_audit,
    until,
)
from tests.marker import MARKER, shown_in


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a KMS with one node that is allowed."""
    initialise(tmp_path)
    allow(tmp_path, NODE)
    return tmp_path


def test_what_was_sealed_opens_after_a_restart(directory: Path) -> None:
    """With TLS by a pair that it made itself, and says so."""
    with ServerProcess(directory) as server:
        client = server.client()
        sealed = client.seal().granted
        client.close()
    assert server.process.returncode == 0
    assert "the certificate signs itself" in server.said
    assert "whoever knows the UUID of an allowed node is that node" in server.said
    with ServerProcess(directory, "--workers", "2") as server:
        client = server.client()
        assert client.unseal(sealed).granted == KEY
        client.close()


class Load:
    """Nodes that seal and unseal as fast as they can, until somebody kills the server."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._ended = threading.Event()
        self.sealed: list[tuple[str, bytes]] = []

    def run(self, uuid: str) -> None:
        """Be one node."""
        client = self._server.client()
        while not self._ended.is_set():
            sealed = client.seal(uuid).data
            if sealed is not None:
                self.sealed.append((uuid, sealed))
                client.unseal(sealed, uuid)
        client.close()

    def kill(self) -> None:
        """Kill the server, and then end the nodes."""
        self._server.kill()
        self._ended.set()


def _expect_opens(server: ServerProcess, sealed: list[tuple[str, bytes]]) -> None:
    client = server.client()
    for uuid, data in sealed:
        assert client.unseal(data, uuid).granted == KEY
    client.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_sigkill_under_load_loses_nothing_that_was_answered(directory: Path, seed: int) -> None:
    """At random moments, over and over: what was sealed unseals, who was allowed is, who was revoked stays so."""
    chance, sealed, allowed = random.Random(seed), list[tuple[str, bytes]](), [NODE]  # noqa: S311  # moments
    allow(directory, OTHER, state=NodeState.REVOKED)
    for turn in range(3):
        with ServerProcess(directory, "--workers", "2") as server:
            _expect_opens(server, sealed)
            load = Load(server)
            with ThreadPoolExecutor(4) as pool:
                running = [pool.submit(load.run, chance.choice(allowed)) for _ in range(4)]
                time.sleep(chance.uniform(0.05, 0.4))
                allowed.append(f"{turn:08x}-1234-4677-8899-aabbccddee{seed:02x}")
                allow(directory, allowed[-1])
                time.sleep(chance.uniform(0.0, 0.2))
                load.kill()
                for future in running:
                    future.result()
            sealed += load.sealed[-50:]
    assert sealed
    states = [node.state for node in Kms().nodes(str(directory))]
    assert (states.count(NodeState.ALLOWED), states.count(NodeState.REVOKED)) == (len(allowed), 1)
    with ServerProcess(directory) as server:
        client = server.client()
        assert client.seal(OTHER).code is grpc.StatusCode.PERMISSION_DENIED
        client.close()
        _expect_opens(server, sealed)
    assert all(set(line) == {"time", "node", "peer", "verb", "outcome", "ms"} for line in read_audit(directory))


def test_workers_end_with_the_first_process(directory: Path) -> None:
    """Also when it is killed: the port is free, and nobody answers with an old key."""
    with ServerProcess(directory, "--workers", "3") as server:
        address = read_address(server.target, "")
        children = server.children()
        assert len(children) == 4
        server.kill()
    until(lambda: not any(map(_runs, children)))
    port, _ = reserve(address)
    port.close()


def _runs(child: int) -> bool:
    """Tell whether a process is more than an entry that nobody has taken note of yet."""
    try:
        stat = Path(f"/proc/{child}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_two_workers_share_calls_and_a_dead_one_is_replaced(directory: Path) -> None:
    """Many connections reach both; one killed is started again, counted, and told."""
    with ServerProcess(directory, "--workers", "2") as server:
        for _ in range(20):
            client = server.client()
            assert client.seal().data is not None
            client.close()
        os.kill(server.children()[1], signal.SIGKILL)
        until(lambda: metric(server.status, "luksctl_kms_worker_starts_total") == 3)
        until(lambda: metric(server.status, "luksctl_kms_workers_ready") == 2)
        client = server.client()
        assert client.seal().data is not None
        client.close()
        until(lambda: 'outcome="ok"} 21' in get(f"{server.status}/metrics")[1])
    assert "ended, and is started again" in server.said
    assert server.process.returncode == 0


def test_a_storm_of_new_connections_kills_no_worker(directory: Path) -> None:
    """Some hundred nodes that come, ask and go at once, and a new certificate in between."""
    with ServerProcess(directory) as server:
        client = server.client()
        sealed = client.seal().granted
        client.close()
        for _ in range(2):
            results = load_on(server.target, directory, sealed, 0.7, fresh_connections=True)
            assert sum(result["failed"] for result in results) == 0
            assert sum(len(result["took_s"]) for result in results) > 10
            server.process.send_signal(signal.SIGHUP)
        assert server.starts() == 1
    assert [line for line in server.said.splitlines() if not line.startswith("luksctl kms: ")] == []


def test_health_and_readiness_are_told_apart(directory: Path) -> None:
    """Ready as long as a worker answers and the list can be read; alive in any case."""
    with ServerProcess(directory) as server:
        assert get(f"{server.status}/healthz")[0] == 200
        status, text = get(f"{server.status}/readyz")
        assert (status, json.loads(text)) == (200, {"ready": True, "workers": 1, "against": []})
        assert get(f"{server.status}/other")[0] == 404
        (directory / "nodes.db").write_bytes(b"damaged" * 10000)
        assert get(f"{server.status}/readyz")[0] == 503
        assert get(f"{server.status}/healthz")[0] == 200
        client = server.client()
        assert client.seal().code is grpc.StatusCode.UNAVAILABLE
        client.close()


def test_sigterm_takes_no_new_calls_and_ends_with_0(directory: Path) -> None:
    """Calls that come too late are refused by gRPC, none is lost half way, and each that was answered is in the log."""
    with ServerProcess(directory, "--workers", "2") as server:
        clients = [server.client() for _ in range(4)]
        for client in clients:
            assert client.seal().data is not None
        server.process.terminate()
        replies = [client.seal() for client in clients for _ in range(5)]
        assert server.finish() == 0
        late = {reply.code for reply in replies}
        assert late <= {None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        for client in clients:
            client.close()
    assert "stopped" in server.said
    assert len(read_audit(directory)) >= 4 + sum(reply.data is not None for reply in replies)


def test_sigterm_lets_a_call_end_that_was_taken(directory: Path) -> None:
    """A node that enrolls itself waits for the list, which somebody keeps; SIGTERM comes, and then its answer."""
    options = ("--enroll", "auto", "--enroll-from", "127.0.0.0/8", "--enroll-until", "2999-01-01")
    with ServerProcess(directory, *options) as server, ThreadPoolExecutor(1) as pool:
        client = server.client()
        assert client.seal().data is not None
        holder = sqlite3.connect(directory / "nodes.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(client.seal, OTHER)
        time.sleep(0.3)
        server.process.terminate()
        until(lambda: get(f"{server.status}/readyz")[0] == 503)
        assert not waiting.done()
        holder.execute("ROLLBACK")
        holder.close()
        assert waiting.result().data is not None
        assert server.finish() == 0
        client.close()


def test_the_audit_log_is_made_anew_on_sighup(directory: Path) -> None:
    """Renamed, and from then on in a new file, for every worker."""
    log = directory / "audit.log"
    with ServerProcess(directory, "--workers", "2") as server:
        client = server.client()
        assert client.seal().data is not None
        log.rename(directory / "audit.log.1")
        server.process.send_signal(signal.SIGHUP)
        until(log.exists)

        def everybody_has_it() -> bool:
            for _ in range(5):
                other = server.client()
                other.seal()
                other.close()
            before = len((directory / "audit.log.1").read_text(encoding="utf-8").splitlines())
            return before < 1 + len(read_audit(directory)) and _links(server, str(log)) == 2

        until(everybody_has_it)
        client.close()


def _links(server: ServerProcess, path: str) -> int:
    """Return how many processes of the server have `path` open."""
    count = 0
    for child in server.children():
        for name in os.listdir(f"/proc/{child}/fd"):
            try:
                count += os.readlink(f"/proc/{child}/fd/{name}") == path
            except FileNotFoundError:
                continue
    return count


def test_a_new_certificate_is_served_after_sighup(directory: Path) -> None:
    """New connections see it; a pair that is wrong changes nothing, and is told."""
    old, new = Authority(), Authority()
    certificate, key = old.server().write(directory, "server")
    with ServerProcess(directory, "--tls-cert", certificate, "--tls-key", key) as server:

        def serves(authority: Authority) -> bool:
            client = Client(server.target, authority.certificate)
            reply = client.seal()
            client.close()
            return reply.data is not None

        assert serves(old)
        Path(certificate).write_bytes(b"damaged")
        server.process.send_signal(signal.SIGHUP)
        server.hear("what was there before is used on")
        assert serves(old)
        new.server().write(directory, "server")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: serves(new))
        assert not serves(old)


def test_what_cannot_be_written_down_is_not_given_out(directory: Path) -> None:
    """A full disk under the audit log: UNAVAILABLE and counted, and refused nodes are refused as ever."""
    with ServerProcess(directory, "--audit", "/dev/full") as server:
        client = server.client()
        assert client.seal().code is grpc.StatusCode.UNAVAILABLE
        assert client.seal(OTHER).code is grpc.StatusCode.PERMISSION_DENIED
        assert metric(server.status, "luksctl_kms_audit_failures_total") == 2
        client.close()


def test_no_key_and_no_uuid_is_shown_or_kept(directory: Path) -> None:
    """A marker for the key, and the UUIDs of nodes that are allowed and unknown: not in any output, log or file."""
    with ServerProcess(directory) as server:
        client = server.client()
        sealed = client.seal(NODE, MARKER).granted
        assert client.unseal(sealed).granted == MARKER
        client.unseal(sealed, OTHER)
        client.unseal(sealed[:-1])
        client.raw("/sidero.kms.KMSService/Seal", MARKER)
        client.close()
        texts = [get(f"{server.status}/{path}")[1] for path in ("metrics", "readyz", "healthz")]
        texts += [Path(f"/proc/{pid}/cmdline").read_text() for pid in (server.process.pid, *server.children())]
        texts += [Path(f"/proc/{pid}/environ").read_text() for pid in (server.process.pid, *server.children())]
    content = [server.said.encode(), *(text.encode() for text in texts)]
    content += [path.read_bytes() for path in directory.iterdir()]
    secrets = (MARKER, PASSPHRASE, NODE.encode(), OTHER.encode(), NODE.replace("-", "").encode())
    for secret in secrets:
        assert [shown_in(text, secret) for text in content] == [[]] * len(content)
    assert (directory / "audit.log").stat().st_mode & 0o777 == 0o600
    assert (directory / "nodes.db").stat().st_mode & 0o777 == 0o600
