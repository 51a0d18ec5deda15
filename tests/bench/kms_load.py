"""`python -m tests.bench.kms_load`: nodes that unseal as fast as the server answers, from a process of their own.

A boot storm is many clients and one server, so the client has to cost less than the server: TLS by the ssl module, and
as much of HTTP/2 as one call takes, by hand. Reads what to do as JSON, and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import resource
import socket
import ssl
import struct
import sys
import threading
import time
from typing import Any

_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Answers are never so many that the window of a connection closes.
_WIDE = (1 << 31) - 1 - 65535


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header field that is in no table (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _headers(authority: str) -> bytes:
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/sidero.kms.KMSService/Unseal"),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
    return b"".join(_literal(name, value) for name, value in fields)


class Connection:
    """One TLS connection over which calls go one after the other."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection((host, port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        self._headers = _headers("localhost")
        self._stream = -1
        self._received = b""
        opening = _frame(_SETTINGS, 0, 0, b"") + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDE))
        self._waiting = _PREFACE + opening

    def call(self, message: bytes) -> bytes:
        """Send one message, and return the data of the answer; empty where it was refused."""
        self._stream += 2
        body = b"\x00" + struct.pack(">I", len(message)) + message
        self._socket.sendall(
            self._waiting
            + _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            + _frame(_DATA, _END_STREAM, self._stream, body)
        )
        self._waiting = b""
        data, ended = b"", False
        while not ended:
            kind, flags, stream, payload = self._next()
            if kind == _DATA:
                data += payload
            elif kind == _SETTINGS and not flags & _ACK:
                self._waiting += _frame(_SETTINGS, _ACK, 0, b"")
            elif kind == _PING and not flags & _ACK:
                self._socket.sendall(_frame(_PING, _ACK, 0, payload))
            elif kind == _GOAWAY:
                raise ConnectionError("the server closes the connection")
            ended = stream == self._stream and bool(flags & _END_STREAM) and kind in {_DATA, _HEADERS}
        return data[5:]

    def _next(self) -> tuple[int, int, int, bytes]:
        while len(self._received) < 9 or len(self._received) < 9 + int.from_bytes(self._received[:3], "big"):
            got = self._socket.recv(65536)
            if not got:
                raise ConnectionError("the server closed the connection")
            self._received += got
        length = int.from_bytes(self._received[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
        payload, self._received = self._received[9 : 9 + length], self._received[9 + length :]
        return kind, flags, stream, payload

    def close(self) -> None:
        """End it without ceremony, as a node does."""
        self._socket.close()


class Nodes:
    """Threads that call until the time is over, and what they measured."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._context = ssl.create_default_context(cafile=job["roots"])
        self._context.set_alpn_protocols(["h2"])
        self._message = bytes.fromhex(job["message"])
        self._wanted = bytes.fromhex(job["wanted"])
        self._end = time.perf_counter() + job["seconds"]
        self.took_s: list[float] = []
        self.failed = 0

    def run(self) -> None:
        """Be all nodes at once."""
        threads = [threading.Thread(target=self._node) for _ in range(self._job["nodes"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _node(self) -> None:
        connection: Connection | None = None
        while time.perf_counter() < self._end:
            begun = time.perf_counter()
            try:
                if connection is None:
                    connection = Connection(self._job["host"], self._job["port"], self._context)
                good = self._wanted in connection.call(self._message)
            except OSError:
                good, connection = False, None
            if not good:
                self.failed += 1
                continue
            self.took_s.append(time.perf_counter() - begun)
            if self._job["fresh"] and connection is not None:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()


def main() -> None:
    """Do the job on standard input."""
    nodes = Nodes(json.load(sys.stdin))
    nodes.run()
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = {"took_s": nodes.took_s, "failed": nodes.failed, "cpu_s": used.ru_utime + used.ru_stime}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
