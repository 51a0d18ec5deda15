"""The health protocol of gRPC (grpc.health.v1.Health), for whoever asks over the port that nodes use.

    message HealthCheckRequest  { string service = 1; }
    message HealthCheckResponse { ServingStatus status = 1; }   // SERVING = 1, NOT_SERVING = 2

Check says whether nodes are answered: SERVING as long as the list of nodes can be read. Watch is left out, as the
protocol allows (UNIMPLEMENTED): it would keep a thread for everybody who watches.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from luksctl.errors import LuksctlError
from luksctl.hints import Final
from luksctl.kms.address import address_of
from luksctl.kms.service import Denied
from luksctl.model.kms_wire import SERVICE, decode_response

HEALTH: Final = "grpc.health.v1.Health"
_SERVING: Final = b"\x08\x01"
_NOT_SERVING: Final = b"\x08\x02"
# The server as a whole, and its services.
_KNOWN: Final = frozenset({b"", SERVICE.encode(), HEALTH.encode()})


def check(look: Callable[[str], object]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    """Return what gRPC calls for Check; `look` is given who asks, and raises where nobody is answered."""

    def behave(wire: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            # Its one field has the number and the form of the one in a Response.
            service = bytes(decode_response(wire))
        except ValueError:
            return context.abort(grpc.StatusCode.INVALID_ARGUMENT, "malformed request")
        if service not in _KNOWN:
            return context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        try:
            look(address_of(context.peer()))
        except Denied:
            return context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests")
        except LuksctlError:
            return _NOT_SERVING
        return _SERVING

    return behave
