"""`python -m tests.bench.kms_empty DIRECTORY`: gRPC as the KMS runs it, with nothing behind it.

What it costs to answer is gRPC's own share of what the KMS costs: the same library, options, threads and certificate, a
constant answer. Prints its port, and serves until standard input ends.
"""

from __future__ import annotations

import sys

from luksctl.kms.address import Address
from luksctl.kms.grpc_server import serve_behaviours
from luksctl.kms.tls import Credentials, self_signed
from luksctl.model.kms_wire import SERVICE, encode_response
from tests.kms.serving import KEY


def main(directory: str) -> None:
    """Answer every call with the same key."""
    address = Address("127.0.0.1", 0)
    answer = encode_response(KEY)
    behaviours = dict.fromkeys(("Seal", "Unseal"), lambda _, __: answer)
    server, port = serve_behaviours({SERVICE: behaviours}, address, Credentials(self_signed(directory, address)))
    server.start()
    print(port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
