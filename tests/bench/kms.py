"""A boot storm: how many nodes the KMS answers, what each costs the server, and what keeps it from more.

The server is `luksctl kms serve` as an operator runs it: TLS, the list in SQLite, the audit log on disk. Its cost is
what the kernel says its processes used, so a machine that the load shares spoils rates, and hardly the cost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from luksctl.model.kms_wire import encode_request
from tests.bench.measure import ROOT, Figure
from tests.kms.serving import KEY, NODE, ServerProcess, allow, initialise

FRESH_GOAL_MS = 1.0
KEPT_GOAL_MS = 0.25
SECONDS = 3.0
TURNS = 3
NODES = 16
_CPUS = len(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = 0.9
_MIB = 1024


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time, in seconds: in programs, and in the kernel for them."""

    user_s: float
    kernel_s: float

    @property
    def all_s(self) -> float:
        """Return both."""
        return self.user_s + self.kernel_s


@dataclass(frozen=True, slots=True)
class Storm:
    """What one load came to. CPU times are of all processes of a kind, `busy_s` of the whole machine."""

    took_ms: list[float]
    failed: int
    seconds: float
    server: Used
    load_s: float
    busy_s: float
    workers: int
    peak_mib: float

    @property
    def rate(self) -> float:
        """Return unseals a second."""
        return len(self.took_ms) / self.seconds

    @property
    def cost_ms(self) -> float:
        """Return what one unseal costs the server."""
        return self.server.all_s * 1000 / len(self.took_ms)

    @property
    def limit(self) -> str:
        """Return what kept it from being more."""
        server, load, busy = (used / self.seconds for used in (self.server.all_s, self.load_s, self.busy_s))
        shares = f"server {server:.2f}, load {load:.2f}, all else {max(0.0, busy - server - load):.2f}"
        if server >= _BUSY * self.workers:
            return f"the CPU of the workers ({shares})"
        if busy >= _BUSY * _CPUS:
            return f"the {_CPUS} CPUs of this machine ({shares})"
        return f"no CPU: it waits, for disk, network or locks ({shares} of {_CPUS})"

    def __str__(self) -> str:
        cuts, count = quantiles(self.took_ms, n=100), len(self.took_ms)
        return (
            f"{self.server.user_s * 1000 / count:.2f} in programs and {self.server.kernel_s * 1000 / count:.2f} in the "
            f"kernel; {self.rate:.0f}/s, p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, {self.failed} failed, "
            f"{self.workers} workers, {self.peak_mib:.0f} MiB each; limited by {self.limit}"
        )


def fresh(directory: Path) -> Figure:
    """Measure a new TLS connection for each unseal, which is what a booting node does."""
    said, storm = _beside_empty(directory, fresh_connections=True)
    return Figure("kms: server CPU of an unseal, fresh TLS", storm.cost_ms, "ms", said, FRESH_GOAL_MS)


def kept(directory: Path) -> Figure:
    """Measure unseals on connections that stay."""
    said, storm = _beside_empty(directory, fresh_connections=False)
    return Figure("kms: server CPU of an unseal, kept connection", storm.cost_ms, "ms", said, KEPT_GOAL_MS)


def scaling(directory: Path) -> Figure:
    """Measure fresh connections with a worker for each CPU: it scales as far as an unseal costs no more."""
    one = storm_of(directory / "one", fresh_connections=True)
    many = storm_of(directory / "many", fresh_connections=True, workers=max(2, _CPUS))
    name = f"kms: server CPU of an unseal, fresh TLS, {many.workers} workers"
    return Figure(name, many.cost_ms, "ms", f"{many}; one worker: {one}", FRESH_GOAL_MS)


def _beside_empty(directory: Path, *, fresh_connections: bool) -> tuple[str, Storm]:
    """Measure in turn the KMS and gRPC with nothing behind it, on the same machine in the same minute."""
    storms, empty_ms = [], []
    for turn in range(TURNS):
        own = directory / str(turn)
        storms.append(storm_of(own, fresh_connections=fresh_connections))
        empty_ms.append(empty_cost_ms(own, fresh_connections=fresh_connections))
    storm = sorted(storms, key=lambda one: one.cost_ms)[TURNS // 2]
    shares = ", ".join(
        f"{one.cost_ms:.2f} of which gRPC {empty:.2f}" for one, empty in zip(storms, empty_ms, strict=True)
    )
    return f"turn by turn {shares}; {storm}", storm


def storm_of(directory: Path, *, fresh_connections: bool, workers: int = 1, seconds: float = SECONDS) -> Storm:
    """Serve, warm up, and let nodes unseal for some seconds from as many processes as there are CPUs."""
    directory.mkdir(exist_ok=True)
    initialise(directory)
    allow(directory, NODE)
    with ServerProcess(directory, "--workers", str(workers)) as server:
        client = server.client()
        sealed = client.seal().granted
        client.close()
        load_on(server.target, directory, sealed, 0.5, fresh_connections=fresh_connections)
        before, before_all, begun = _used_by(server), _machine_s(), time.perf_counter()
        results = load_on(server.target, directory, sealed, seconds, fresh_connections=fresh_connections)
        took, after, busy_s = time.perf_counter() - begun, _used_by(server), _machine_s() - before_all
        if restarts := server.starts() - workers:
            raise RuntimeError(f"{restarts} workers had to be started again: {server.said}")
        peak_mib = max(_peak_kib(child) for child in server.children()) / _MIB
    return Storm(
        [took_s * 1000 for result in results for took_s in result["took_s"]],
        sum(result["failed"] for result in results),
        took,
        Used(after.user_s - before.user_s, after.kernel_s - before.kernel_s),
        sum(result["cpu_s"] for result in results),
        busy_s,
        workers,
        peak_mib,
    )


def empty_cost_ms(directory: Path, *, fresh_connections: bool, seconds: float = SECONDS) -> float:
    """Return what a call costs gRPC with nothing behind it; `directory` has the certificate of a KMS."""
    command = (sys.executable, "-m", "tests.bench.kms_empty", str(directory))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as server:
        assert server.stdout is not None
        target = f"127.0.0.1:{int(server.stdout.readline())}"
        load_on(target, directory, b"sealed", 0.5, fresh_connections=fresh_connections)
        before = _cpu(server.pid)
        results = load_on(target, directory, b"sealed", seconds, fresh_connections=fresh_connections)
        used_s = _cpu(server.pid).all_s - before.all_s
    return used_s * 1000 / sum(len(result["took_s"]) for result in results)


def load_on(
    target: str, directory: Path, sealed: bytes, seconds: float, *, fresh_connections: bool
) -> list[dict[str, Any]]:
    """Let nodes unseal for some seconds, from as many processes as there are CPUs; return what each measured."""
    host, _, port = target.rpartition(":")
    job = {
        "host": host,
        "port": int(port),
        "roots": str(directory / "self-signed.crt"),
        "message": encode_request(NODE, sealed).hex(),
        "wanted": KEY.hex(),
        "nodes": max(1, NODES // _CPUS),
        "seconds": seconds,
        "fresh": fresh_connections,
    }
    command = (sys.executable, "-m", "tests.bench.kms_load")
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(_CPUS)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
        process.stdin = None
    return [json.loads(process.communicate()[0]) for process in running]


def _used_by(server: ServerProcess) -> Used:
    """Return the CPU time of all processes of the server so far."""
    each = [_cpu(process) for process in (server.process.pid, *server.children())]
    return Used(sum(used.user_s for used in each), sum(used.kernel_s for used in each))


def _cpu(process: int) -> Used:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return Used(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)


def _machine_s() -> float:
    """Return the CPU time of everything on this machine so far: all but idle and iowait (proc(5))."""
    first, _, _ = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")
    fields = [int(word) for word in first.split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def _peak_kib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
