"""/healthz, /readyz and /metrics for whoever watches the server: plain HTTP, by default for this machine alone."""

from __future__ import annotations

import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from luksctl.errors import LuksctlError
from luksctl.hints import Any, Final
from luksctl.kms.board import BOUNDS_S, Board
from luksctl.kms.nodes import NodeStore
from luksctl.kms.plan import Plan
from luksctl.kms.process import Signals
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.model.kms import NodeState

_TIMEOUT_S: Final = 5.0
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def watch(plan: Plan, board: Board, listener: socket.socket, lifeline: int) -> int:
    """Answer on `listener` until SIGTERM, SIGINT, or the supervisor's end."""
    signals = Signals()
    store = None if plan.directory is None else SqliteNodes(plan.directory)
    server = _Server(listener, board, store)
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    ended = False
    while not ended:
        came, orphaned = signals.wait(None, lifeline)
        ended = orphaned or signal.SIGTERM in came
    server.shutdown()
    return 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, board: Board, store: NodeStore | None) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.board = board
        self.store = store


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server: _Server
    server_version = "luksctl-kms"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        if self.path == "/healthz":
            self._answer(200, "application/json", json.dumps({"alive": True}))
        elif self.path == "/readyz":
            fields = readiness(self.server.board, self.server.store)
            self._answer(200 if fields["ready"] else 503, "application/json", json.dumps(fields))
        elif self.path == "/metrics":
            self._answer(200, _METRICS_TYPE, metrics_text(self.server.board, self.server.store))
        else:
            self._answer(404, "text/plain", "/healthz, /readyz, /metrics\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        """Say nothing: a probe every second is no news."""


def readiness(board: Board, store: NodeStore | None) -> dict[str, object]:
    """Return whether calls are answered, and what stands against it."""
    against = []
    if board.ready == 0:
        against.append("no worker answers")
    if _counts(store) is None:
        against.append("the list of nodes cannot be read")
    return {"ready": not against, "workers": board.ready, "against": against}


def metrics_text(board: Board, store: NodeStore | None) -> str:
    """Return everything that is counted, as Prometheus reads it; nodes are numbers here, never names."""
    lines = ["# TYPE luksctl_kms_requests_total counter"]
    requests = board.requests()
    for (verb, outcome), count in requests.items():
        lines.append(f'luksctl_kms_requests_total{{verb="{verb}",outcome="{outcome}"}} {count}')
    lines.append("# TYPE luksctl_kms_request_seconds histogram")
    for verb in dict.fromkeys(verb for verb, _ in requests):
        counts, total_s = board.durations(verb)
        reached = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
            reached += count
            lines.append(f'luksctl_kms_request_seconds_bucket{{verb="{verb}",le="{bound}"}} {reached}')
        lines.append(f'luksctl_kms_request_seconds_sum{{verb="{verb}"}} {total_s:.6f}')
        lines.append(f'luksctl_kms_request_seconds_count{{verb="{verb}"}} {reached}')
    counted = _counts(store)
    if counted is not None and store is not None:
        lines.append("# TYPE luksctl_kms_nodes gauge")
        lines += [f'luksctl_kms_nodes{{state="{state}"}} {count}' for state, count in counted.items()]
    singles = (
        ("store_up", "gauge", int(counted is not None)),
        ("workers_ready", "gauge", board.ready),
        ("worker_starts_total", "counter", board.starts),
        ("key_version", "gauge", board.key_version),
        ("audit_failures_total", "counter", board.audit_failures),
        ("pending_dropped_total", "counter", board.dropped_total),
    )
    for name, kind, number in singles:
        lines += [f"# TYPE luksctl_kms_{name} {kind}", f"luksctl_kms_{name} {number}"]
    return "\n".join([*lines, ""])


def _counts(store: NodeStore | None) -> dict[NodeState, int] | None:
    """Return how many nodes there are, nothing of a server that keeps none, None where they cannot be read."""
    if store is None:
        return {}
    try:
        return store.counts()
    except LuksctlError:
        return None
