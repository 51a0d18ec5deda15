"""One worker: a gRPC server in a process of its own, which ends when its supervisor does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack

from luksctl.errors import LuksctlError
from luksctl.hints import TYPE_CHECKING, Final
from luksctl.kms.audit import AuditLog
from luksctl.kms.backend import Backend
from luksctl.kms.board import Row
from luksctl.kms.envelope import KeyringBackend
from luksctl.kms.key_channel import KeyChannel
from luksctl.kms.keyring import Keyring
from luksctl.kms.limit import RateLimit
from luksctl.kms.nodes import NodeStore
from luksctl.kms.notebook import Notebook
from luksctl.kms.plan import Plan
from luksctl.kms.process import Signals
from luksctl.kms.reference import ReferenceBackend
from luksctl.kms.service import Parts, Service
from luksctl.kms.sqlite_nodes import SqliteNodes
from luksctl.secret import Secret

if TYPE_CHECKING:
    import grpc

_STOPPING: Final = {signal.SIGTERM, signal.SIGINT}


def work(plan: Plan, row: Row, limit: RateLimit, keys: KeyChannel, lifeline: int) -> int:
    """Serve until SIGTERM, SIGINT, or the supervisor's end. The master key comes through `keys`, also later ones."""
    signals = Signals()
    with ExitStack() as kept:
        backend, renew = _backend(plan, kept.enter_context(keys.receive()), row, keys)
        store = None if plan.directory is None else SqliteNodes(plan.directory)
        audit = AuditLog(plan.audit)
        notebook = None if store is None else Notebook(store, row.dropped)
        server, reload = _server(plan, Parts(backend, store, plan.rules, audit, row, limit, notebook))
        if notebook is not None:
            notebook.start()
        server.start()
        row.started()
        row.set_ready(True)
        grace_s = _wait(signals, lifeline, plan.options.grace_s, (audit.reopen, reload, renew))
        row.set_ready(False)
        server.stop(grace_s).wait()
        _conclude(notebook, store, audit)
    return 0


def _wait(signals: Signals, lifeline: int, grace_s: float, again: tuple[Callable[[], None], ...]) -> float:
    """Return how long calls may still take, once the time has come to end; SIGHUP reads files again."""
    while True:
        came, orphaned = signals.wait(None, lifeline)
        if orphaned or came & _STOPPING:
            return 0.0 if orphaned else grace_s
        if signal.SIGHUP in came:
            for read in again:
                _attempt(read)


def _attempt(read: Callable[[], None]) -> None:
    """Read a file again; where that fails, what was read before goes on."""
    try:
        read()
    except (LuksctlError, OSError) as error:
        sys.stderr.write(f"luksctl kms: {error}; what was there before is used on\n")


def _server(plan: Plan, parts: Parts) -> tuple[grpc.Server, Callable[[], None]]:
    """Return the server, and what reads its certificate again."""
    # Its own log repeats what strangers send, such as names that they ask for.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from luksctl.kms.grpc_server import make_server  # noqa: PLC0415  # gRPC is for workers, after the fork
    from luksctl.kms.tls import Credentials  # noqa: PLC0415

    credentials = None if plan.tls is None else Credentials(plan.tls)
    server, _ = make_server(Service(parts), plan.address, credentials)
    return server, _nothing if credentials is None else credentials.reload


def _nothing() -> None:
    """Read nothing again: plain text has no certificate, and the reference server one key for ever."""


def _conclude(notebook: Notebook | None, store: NodeStore | None, audit: AuditLog) -> None:
    if notebook is not None:
        notebook.stop()
    if store is not None:
        store.close()
    audit.close()


def _backend(plan: Plan, key: Secret, row: Row, keys: KeyChannel) -> tuple[Backend, Callable[[], None]]:
    """Return the backend, and what has it go on with the key that was sent last."""
    if plan.options.compat:
        return ReferenceBackend(key), _nothing
    keyring = Keyring(Secret.join(key))
    backend = KeyringBackend(keyring)
    row.set_key_version(keyring.newest.version)

    def renew() -> None:
        text = keys.newest()
        if text is not None:
            newer = Keyring(text)
            backend.renew(newer)
            row.set_key_version(newer.newest.version)

    return backend, renew
