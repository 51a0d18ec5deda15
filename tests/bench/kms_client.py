"""What a kms key costs the node that asks: loading the library, the first call with its connection, and one more.

The KMS is one of the tests, on loopback and in this process, so its share is in the figures, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from luksctl.model.kms_wire import SEAL, UNSEAL
from luksctl.model.meta import KmsAccess
from luksctl.providers.kms_connection import Call, KmsConnection
from luksctl.secret import Secret
from tests.bench.measure import BARE_START_MS, Figure, medians_ms, python, unit_python
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer

IMPORT_GOAL_MS = 150.0
CONNECT_GOAL_MS = 50.0
CALL_GOAL_MS = 5.0
_ROUNDS = 30
_IMPORT = "import luksctl.providers.kms_run, grpc"
_NODE = "4c4c4544-0042-3510-8051-b4c04f4e5731"


def loading(_: Path) -> Figure:
    """Measure what loading the client and gRPC adds to a start."""
    with_grpc, bare = "with the client", "python -c pass"
    taken = medians_ms({with_grpc: unit_python(_IMPORT), bare: python("-c", "pass")})
    value = taken[with_grpc] * BARE_START_MS / taken[bare]
    return Figure("kms: a start that loads the client", value, "ms", f"bare start {BARE_START_MS:g} ms", IMPORT_GOAL_MS)


def connecting(_: Path) -> Figure:
    """Measure an unseal on a fresh TLS connection."""
    with KmsServer(Authority()) as server:
        sealed = _sealed(server)

        def unseal() -> None:
            connection = _connection(server)
            _expect_key(connection, server, sealed)
            connection.close()

        value = _median_ms(unseal)
    return Figure("kms: unseal on a fresh connection", value, "ms", "TLS 1.3 on loopback", CONNECT_GOAL_MS)


def calling(_: Path) -> Figure:
    """Measure an unseal on a connection that is there, as for the second volume."""
    with KmsServer(Authority()) as server:
        sealed, connection = _sealed(server), _connection(server)
        value = _median_ms(lambda: _expect_key(connection, server, sealed))
        connection.close()
    return Figure("kms: unseal on a kept connection", value, "ms", "loopback", CALL_GOAL_MS)


def _connection(server: KmsServer) -> KmsConnection:
    return KmsConnection(KmsAccess(roots=(server.authority.pem,)), bundles=())


def _sealed(server: KmsServer) -> bytes:
    connection = _connection(server)
    _, answer = next(connection.answers(Call(SEAL, server.endpoint, _NODE, bytes(32))))
    connection.close()
    if not isinstance(answer, Secret):
        raise answer
    with answer.view() as view:
        return bytes(view)


def _expect_key(connection: KmsConnection, server: KmsServer, sealed: bytes) -> None:
    _, answer = next(connection.answers(Call(UNSEAL, server.endpoint, _NODE, sealed)))
    if not isinstance(answer, Secret):
        raise answer
    answer.close()


def _median_ms(action: Callable[[], None]) -> float:
    taken = []
    for number in range(_ROUNDS + 1):
        begun = time.perf_counter()
        action()
        if number > 0:
            taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)
