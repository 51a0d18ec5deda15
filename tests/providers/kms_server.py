"""A KMS on loopback that seals with AES-GCM as the reference server does, and misbehaves as it is told to."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import TracebackType
from typing import Any, Self

import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luksctl.model.kms_wire import SEAL, UNSEAL, decode_request, encode_response
from tests.providers.authorities import Authority, Pair

# What a test puts in the place of the right answer: it is given the method, and the answer as it should be.
Spoil = Callable[[str, bytes], bytes]


class KmsServer:
    """Serve `allowed` nodes (None: every one) until the end of the `with`; counts what it is asked.

    `plain`: without TLS. `clients` is the authority whose certificates nodes have to show, `token` what they have to.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        pair: Pair | None = None,
        master_key: bytes | None = None,
        allowed: set[str] | None = None,
        plain: bool = False,
        clients: Authority | None = None,
        token: str | None = None,
        port: int = 0,
    ) -> None:
        self.authority = authority
        self.master_key = master_key or os.urandom(32)
        self.allowed = allowed
        self.calls: list[str] = []
        self.spoil: Spoil | None = None
        self.refuse_with: tuple[grpc.StatusCode, str] | None = None
        self.late_s = 0.0
        self.random_on_mismatch = False
        self._token = token
        self._stopping = Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.port = self._listen(pair or authority.issue(), clients, port, plain=plain)
        self.scheme = "grpc" if plain else "https"

    def _listen(self, pair: Pair, clients: Authority | None, port: int, *, plain: bool) -> int:
        address = f"127.0.0.1:{port}"
        if plain:
            return self._server.add_insecure_port(address)
        roots = None if clients is None else clients.pem.encode()
        credentials = grpc.ssl_server_credentials(
            [(pair.key, pair.certificate)], root_certificates=roots, require_client_auth=clients is not None
        )
        return self._server.add_secure_port(address, credentials)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Return the endpoint as a config names it."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop serving, and wait until the port is free."""
        self._stopping.set()
        self._server.stop(0).wait()

    def answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer one call."""
        self.calls.append(method.rpartition("/")[2])
        until = time.monotonic() + self.late_s
        # Whoever sets `late_s` back has the calls that wait go on, so that they take no worker from others.
        while self.late_s and time.monotonic() < until and not self._stopping.wait(0.01):
            pass
        node, data = decode_request(request)
        if self._token is not None and ("authorization", f"Bearer {self._token}") not in _metadata(context):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
        if self.refuse_with is not None:
            context.abort(*self.refuse_with)
        if self.allowed is not None and node not in self.allowed:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"node {node} is not allowed")
        right = encode_response(self._seal(node, bytes(data)) if method == SEAL else self._unseal(node, data, context))
        return right if self.spoil is None else self.spoil(method, right)

    def _seal(self, node: str, data: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + AESGCM(self.master_key).encrypt(nonce, data, node.encode())

    def _unseal(self, node: str, sealed: memoryview, context: grpc.ServicerContext) -> bytes:
        try:
            return AESGCM(self.master_key).decrypt(bytes(sealed[:12]), bytes(sealed[12:]), node.encode())
        except (InvalidTag, ValueError):
            if not self.random_on_mismatch:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot unseal this")
            return os.urandom(32)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
    def __init__(self, server: KmsServer) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        if method not in (SEAL, UNSEAL):
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._server.answer(method, request, context)
        )


def _metadata(context: grpc.ServicerContext) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in context.invocation_metadata()]


class SilentPort:
    """A port on loopback that takes connections and never says a word, or is not there at all (`closed`)."""

    def __init__(self, *, closed: bool = False) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        if closed:
            self._socket.close()
        else:
            self._socket.listen(8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def endpoint(self) -> str:
        """Return the endpoint as a config names it."""
        return f"https://127.0.0.1:{self.port}"


def free_port() -> int:
    """Return a port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
