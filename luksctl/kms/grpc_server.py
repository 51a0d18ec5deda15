"""The service as a gRPC server: generic handlers over bytes, limits, and statuses that tell a stranger nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from luksctl.errors import DeviceError
from luksctl.hints import Any, Final
from luksctl.kms.address import Address, address_of
from luksctl.kms.admission import DENIED, Outcome, Rules, Verb
from luksctl.kms.grpc_health import HEALTH, check
from luksctl.kms.identity import Caller, PeerCertificate, bearer_token, read_certificate
from luksctl.kms.service import LONGEST_REQUEST_BYTES, Denied, Service
from luksctl.kms.tls import Credentials
from luksctl.model.kms_wire import SERVICE

Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]

THREADS: Final = 4
# So many calls wait for a thread; a storm of nodes is answered in turn, and what is more than that tries again.
_CALLS_AT_ONCE: Final = 4096
_OPTIONS: Final = (
    ("grpc.so_reuseport", 1),
    # Looking for the best window costs a ping for each call, and no message is longer than any window.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", LONGEST_REQUEST_BYTES),
    ("grpc.max_send_message_length", LONGEST_REQUEST_BYTES),
    ("grpc.max_metadata_size", 8192),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
# One text for all that a node may be refused for: it must not learn whether it is in the list.
_STATUSES: Final = {
    **dict.fromkeys(DENIED, (grpc.StatusCode.PERMISSION_DENIED, "this node may not use this KMS")),
    Outcome.MALFORMED: (grpc.StatusCode.INVALID_ARGUMENT, "malformed request"),
    Outcome.NOT_SEALED_HERE: (grpc.StatusCode.INVALID_ARGUMENT, "incorrect data"),
    Outcome.LIMITED: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests"),
    Outcome.UNAVAILABLE: (grpc.StatusCode.UNAVAILABLE, "try again later"),
    Outcome.FAILED: (grpc.StatusCode.INTERNAL, "internal error"),
}


def make_server(service: Service, address: Address, credentials: Credentials | None) -> tuple[grpc.Server, int]:
    """Return a server that is bound, and its port; None for plain text. DeviceError where it cannot be bound."""
    behaviours = {"Seal": _behaviour(service, Verb.SEAL), "Unseal": _behaviour(service, Verb.UNSEAL)}
    return serve_behaviours({SERVICE: behaviours, HEALTH: {"Check": check(service.look)}}, address, credentials)


def serve_behaviours(
    services: Mapping[str, Mapping[str, Behaviour]], address: Address, credentials: Credentials | None
) -> tuple[grpc.Server, int]:
    """Return a server, as make_server does, of which the methods of each service behave as they are given."""
    handlers = [
        grpc.method_handlers_generic_handler(
            name, {method: grpc.unary_unary_rpc_method_handler(behave) for method, behave in behaviours.items()}
        )
        for name, behaviours in services.items()
    ]
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="call"),
        handlers=handlers,
        options=_OPTIONS,
        maximum_concurrent_rpcs=_CALLS_AT_ONCE,
    )
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials.for_server())
    except RuntimeError as error:
        raise DeviceError(f"{address} cannot be listened on", operation="listen") from error
    return server, port


def _behaviour(service: Service, verb: Verb) -> Behaviour:
    """Return what gRPC calls for `verb`."""

    def behave(wire: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return service.answer(verb, wire, _caller(context, service.rules))
        except Denied as denied:
            outcome = denied.outcome
        except Exception as error:  # noqa: BLE001  # gRPC would send its text, which may hold anything, to the caller
            _tell_where(error)
            outcome = Outcome.FAILED
        return context.abort(*_STATUSES[outcome])

    return behave


def _caller(context: grpc.ServicerContext, rules: Rules) -> Caller:
    """Return who calls; what the rules ask nobody for is not looked at, for that costs every call."""
    return Caller(
        address_of(context.peer()),
        _certificate(context) if rules.certificates else None,
        None if rules.token is None else _token(context),
    )


def _certificate(context: grpc.ServicerContext) -> PeerCertificate | None:
    authenticated: Any = context.auth_context()
    pems = authenticated.get("x509_pem_cert", ())
    return read_certificate(bytes(pems[0])) if pems else None


def _token(context: grpc.ServicerContext) -> bytes | None:
    given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    return bearer_token(given[0]) if len(given) == 1 else None


def _tell_where(error: Exception) -> None:
    """Say on standard error where an unforeseen error came from, and not what it says."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    sys.stderr.write(f"luksctl kms: a bug: {type(error).__name__}{place}\n")
