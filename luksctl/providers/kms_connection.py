"""gRPC to one KMS: a channel for each of its endpoints, kept for the run, all of them asked side by side.

grpc is loaded when the first key comes. It goes by nothing of its own: certificate authorities, proxy and deadlines are
given to it, and what it would write to standard error is switched off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock

from luksctl.config.endpoint import Endpoint, read_endpoint
from luksctl.errors import KmsReason, KmsRejected, KmsUnavailable
from luksctl.hints import Any, Final, final
from luksctl.model.kms_wire import decode_response, encode_request
from luksctl.model.meta import KmsAccess
from luksctl.providers.kms_errors import translate, unavailable
from luksctl.providers.kms_proxy import proxy_for
from luksctl.providers.kms_trust import BUNDLES, publish, trusted_roots
from luksctl.providers.node_id import short_hash
from luksctl.secret import Secret
from luksctl.value import field, frozen

CALL_TIMEOUT_S: Final = 10.0
# A key and what it is sealed into have some hundred bytes; nothing has to take in more from a stranger.
_LONGEST_ANSWER_BYTES: Final = 64 * 1024

KmsFailure = KmsUnavailable | KmsRejected


@frozen
class Call:
    """One request: `data` for the node `node_uuid`, to `endpoint` and those that serve as well."""

    method: str
    endpoint: str
    node_uuid: str = field(repr=False)
    data: Secret | bytes = field(repr=False)


@final
class KmsConnection:
    """The KMS by `access`; `run_dir` takes the bundle of certificate authorities that counts, for people to look at."""

    def __init__(
        self,
        access: KmsAccess,
        *,
        run_dir: str | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        bundles: tuple[str, ...] = BUNDLES,
        environment: Mapping[str, str] = os.environ,
        clock_awaited: Callable[[], bool] = lambda: False,
    ) -> None:
        self._access = access
        self._run_dir = run_dir
        self._timeout_s = timeout_s
        self._bundles = bundles
        self._environment = environment
        self._clock_awaited = clock_awaited
        self._lock = Lock()
        self._channels: dict[str, Any] = {}
        self._credentials: Any = None
        self.failed = False

    def answers(self, call: Call) -> Iterator[tuple[str, Secret | KmsFailure]]:
        """Yield what each endpoint says, with its text, in the order in which they answer; each in its own time.

        Whoever takes no more answers leaves the other calls: they are cancelled.
        """
        arrived: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        running: list[Any] = []
        asked = self._access.endpoints(call.endpoint)
        try:
            running.extend(self._start(text, call, arrived) for text in asked)
            for _ in asked:
                text, outcome = arrived.get()
                yield text, self._outcome(text, call, outcome)
        finally:
            for future in running:
                if future is not None:
                    future.cancel()

    def close(self) -> None:
        """Close every channel; the next call opens them again."""
        with self._lock:
            channels, self._channels, self._credentials = self._channels, {}, None
        for channel in channels.values():
            channel.close()

    def _start(self, text: str, call: Call, arrived: SimpleQueue[tuple[str, Any]]) -> Any:
        """Ask one endpoint; the future, or the error that kept it from being asked, arrives in the queue."""
        try:
            endpoint = self._allowed(text)
            ask = self._channel(text, endpoint).unary_unary(call.method)
            future = ask.future(_request(call), timeout=self._timeout_s, metadata=self._metadata())
        except (KmsUnavailable, KmsRejected) as error:
            arrived.put((text, error))
            return None
        future.add_done_callback(lambda ended: arrived.put((text, ended)))
        return future

    def _outcome(self, text: str, call: Call, outcome: Any) -> Secret | KmsFailure:
        if isinstance(outcome, KmsUnavailable | KmsRejected):
            self.failed = True
            return outcome
        code = outcome.code().name
        if code != "OK":
            self.failed = True
            self._drop(text)
            # A server may repeat what it was asked, and nobody is to read the UUID in a log.
            details = _without(outcome.details() or "", call.node_uuid)
            # A KMS lists nodes by the hash of the UUID in lower case.
            shown = short_hash(call.node_uuid.lower())
            return translate(code, details, text, self._access.note, node=shown, clock_awaited=self._clock_awaited)
        try:
            data = decode_response(outcome.result())
            return Secret.take(data) if len(data) else _wrong_answer(text, "nothing")
        except ValueError as error:
            return _wrong_answer(text, f"no message ({error})")

    def _allowed(self, text: str) -> Endpoint:
        endpoint = read_endpoint(text)
        if endpoint is None:
            raise KmsRejected(f"{text!r} is no endpoint", hint="write https://HOST:PORT")
        if endpoint.tls or endpoint.loopback or self._access.allow_plaintext:
            return endpoint
        raise KmsRejected(
            f"{text} is plain text: whoever is on the way to the KMS reads the keys",
            reason=KmsReason.PLAINTEXT,
            hint="write https://HOST:PORT, or kms: {allowPlaintext: true} in the EncryptionPolicy",
        )

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._access.token
        if token is None:
            return ()
        with token.view() as view:
            return (("authorization", "Bearer " + bytes(view).decode("ascii")),)

    def _channel(self, text: str, endpoint: Endpoint) -> Any:
        grpc = _library()
        with self._lock:
            channel = self._channels.get(text)
            if channel is None:
                target = f"dns:///{endpoint}"
                options = _options(proxy_for(endpoint, self._environment))
                if endpoint.tls:
                    channel = grpc.secure_channel(target, self._tls(grpc), options=options)
                elif self._access.token is not None:
                    raise KmsRejected(f"the token is not sent to {text} in plain text", reason=KmsReason.PLAINTEXT)
                else:
                    channel = grpc.insecure_channel(target, options=options)
                self._channels[text] = channel
            return channel

    def _tls(self, grpc: Any) -> Any:
        if self._credentials is None:
            roots = trusted_roots(self._access.roots, self._bundles)
            if self._run_dir is not None:
                # For people only: a /run that takes no file is no reason not to ask the KMS.
                with suppress(OSError):
                    publish(self._run_dir, roots)
            certificate, key = self._access.certificate, self._access.private_key
            if certificate is None or key is None:
                self._credentials = grpc.ssl_channel_credentials(roots)
            else:
                with key.view() as view:
                    self._credentials = grpc.ssl_channel_credentials(roots, bytes(view), certificate.encode())
        return self._credentials

    def _drop(self, text: str) -> None:
        """Forget a channel that failed: the next call is to try anew, and not to be told of the failure once more."""
        with self._lock:
            channel = self._channels.pop(text, None)
        if channel is not None:
            channel.close()


def _request(call: Call) -> bytes:
    try:
        if isinstance(call.data, bytes):
            return encode_request(call.node_uuid, call.data)
        with call.data.view() as view:
            return encode_request(call.node_uuid, view)
    except UnicodeEncodeError as error:
        raise KmsRejected("META tag 0x0f is not UTF-8, and no KMS takes that", reason=KmsReason.NO_UUID) from error


def _wrong_answer(text: str, what: str) -> KmsUnavailable:
    return unavailable(KmsReason.WRONG_ANSWER, f"the KMS at {text} answered {what}")


def _without(details: str, node_uuid: str) -> str:
    at = details.lower().find(node_uuid.lower()) if node_uuid else -1
    while at >= 0:
        details = f"{details[:at]}[node UUID]{details[at + len(node_uuid) :]}"
        at = details.lower().find(node_uuid.lower())
    return details


def _options(proxy: str | None) -> tuple[tuple[str, Any], ...]:
    chosen = (("grpc.http_proxy", proxy),) if proxy is not None else ()
    return (
        ("grpc.enable_http_proxy", 0 if proxy is None else 1),
        ("grpc.max_receive_message_length", _LONGEST_ANSWER_BYTES),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        *chosen,
    )


def _library() -> Any:
    # The names that the machine's own resolver knows are the ones that the config means. What gRPC thinks of a failure
    # comes with the error.
    for name, value in (("GRPC_DNS_RESOLVER", "native"), ("GRPC_VERBOSITY", "NONE"), ("GRPC_ENABLE_FORK_SUPPORT", "0")):
        os.environ.setdefault(name, value)
    try:
        import grpc  # noqa: PLC0415  # only nodes with kms keys pay for it
    except ImportError as error:
        raise KmsRejected(
            f"the gRPC library cannot be loaded: {error}",
            reason=KmsReason.NO_LIBRARY,
            hint="pip install 'luksctl[kms]'",
        ) from error
    return grpc
