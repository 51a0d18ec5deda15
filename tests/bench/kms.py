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
SECONDS = 8.0
NODES = 16
_CPUS = len(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = 0.9
_MIB = 1024


@dataclass(frozen=True, slots=True)
class Storm:
    """What one load came to. CPU times are of all processes of a kind, `busy_s` of the whole machine."""

    took_ms: list[float]
    failed: int
    seconds: float
    server_s: float
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
        return self.server_s * 1000 / len(self.took_ms)

    @property
    def limit(self) -> str:
        """Return what kept it from being more."""
        server, load, busy = (used / self.seconds for used in (self.server_s, self.load_s, self.busy_s))
        shares = f"server {server:.2f}, load {load:.2f}, all else {max(0.0, busy - server - load):.2f}"
        if server >= _BUSY * self.workers:
            return f"the CPU of the workers ({shares})"
        if busy >= _BUSY * _CPUS:
            return f"the {_CPUS} CPUs of this machine ({shares})"
        return f"no CPU: it waits, for disk, network or locks ({shares} of {_CPUS})"

    def __str__(self) -> str:
        cuts = quantiles(self.took_ms, n=100)
        return (
            f"{self.rate:.0f}/s, p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, {self.failed} failed, "
            f"{self.workers} workers, {self.peak_mib:.0f} MiB each; limited by {self.limit}"
        )


def fresh(directory: Path) -> Figure:
    """Measure a new TLS connection for each unseal, which is what a booting node does."""
    storm = storm_of(directory, fresh_connections=True)
    return Figure("kms: server CPU of an unseal, fresh TLS", storm.cost_ms, "ms", str(storm), FRESH_GOAL_MS)


def kept(directory: Path) -> Figure:
    """Measure unseals on connections that stay."""
    storm = storm_of(directory, fresh_connections=False)
    return Figure("kms: server CPU of an unseal, kept connection", storm.cost_ms, "ms", str(storm), KEPT_GOAL_MS)


def scaling(directory: Path) -> Figure:
    """Measure fresh connections with a worker for each CPU: it scales as far as an unseal costs no more."""
    one = storm_of(directory / "one", fresh_connections=True)
    many = storm_of(directory / "many", fresh_connections=True, workers=max(2, _CPUS))
    name = f"kms: server CPU of an unseal, fresh TLS, {many.workers} workers"
    return Figure(name, many.cost_ms, "ms", f"{many}; one worker: {one}", FRESH_GOAL_MS)


def storm_of(directory: Path, *, fresh_connections: bool, workers: int = 1, seconds: float = SECONDS) -> Storm:
    """Serve, warm up, and let nodes unseal for some seconds from as many processes as there are CPUs."""
    directory.mkdir(exist_ok=True)
    initialise(directory)
    allow(directory, NODE)
    with ServerProcess(directory, "--workers", str(workers)) as server:
        client = server.client()
        sealed = client.seal().granted
        client.close()
        load_on(server, sealed, 0.5, fresh_connections=fresh_connections)
        before, before_all, begun = _used_s(server), _machine_s(), time.perf_counter()
        results = load_on(server, sealed, seconds, fresh_connections=fresh_connections)
        took, server_s, busy_s = time.perf_counter() - begun, _used_s(server) - before, _machine_s() - before_all
        if restarts := server.starts() - workers:
            raise RuntimeError(f"{restarts} workers had to be started again: {server.said}")
        peak_mib = max(_peak_kib(child) for child in server.children()) / _MIB
    return Storm(
        [took_s * 1000 for result in results for took_s in result["took_s"]],
        sum(result["failed"] for result in results),
        took,
        server_s,
        sum(result["cpu_s"] for result in results),
        busy_s,
        workers,
        peak_mib,
    )


def load_on(server: ServerProcess, sealed: bytes, seconds: float, *, fresh_connections: bool) -> list[dict[str, Any]]:
    """Let nodes unseal for some seconds, from as many processes as there are CPUs; return what each measured."""
    host, _, port = server.target.rpartition(":")
    job = {
        "host": host,
        "port": int(port),
        "roots": str(server.directory / "self-signed.crt"),
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


def _used_s(server: ServerProcess) -> float:
    """Return the CPU time of all processes of the server so far."""
    return sum(_cpu_s(process) for process in (server.process.pid, *server.children()))


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _machine_s() -> float:
    """Return the CPU time of everything on this machine so far: all but idle and iowait (proc(5))."""
    first, _, _ = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")
    fields = [int(word) for word in first.split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICKS


def _peak_kib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
