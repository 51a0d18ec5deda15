"""The two messages of the Talos KMS protocol as bytes: proto3, package sidero.kms, service KMSService.

    service KMSService { rpc Seal(Request) returns (Response); rpc Unseal(Request) returns (Response); }
    message Request  { string node_uuid = 1; bytes data = 2; }
    message Response { bytes data = 1; }

Read as proto3 says: a field that is absent is empty, the last of several counts, unknown ones are skipped. What a
message holds may be a key, so views are returned, for the caller to move into a Secret.
"""

from __future__ import annotations

from collections.abc import Iterator

from luksctl.hints import Final

SERVICE: Final = "sidero.kms.KMSService"
SEAL: Final = f"/{SERVICE}/Seal"
UNSEAL: Final = f"/{SERVICE}/Unseal"

_NODE_UUID: Final = 1
_REQUEST_DATA: Final = 2
_RESPONSE_DATA: Final = 1
_VARINT: Final = 0
_FIXED_64: Final = 1
_LENGTH_DELIMITED: Final = 2
_FIXED_32: Final = 5
_FIXED_BYTES: Final = {_FIXED_64: 8, _FIXED_32: 4}
# A varint holds 64 bits, seven to the byte.
_VARINT_BYTES: Final = 10


def encode_request(node_uuid: str, data: bytes | memoryview) -> bytes:
    """Return a Request."""
    return _field(_NODE_UUID, node_uuid.encode()) + _field(_REQUEST_DATA, data)


def decode_request(wire: bytes) -> tuple[str, memoryview]:
    """Return node_uuid and data of a Request; ValueError where it is none."""
    fields = dict(_fields(memoryview(wire), (_NODE_UUID, _REQUEST_DATA)))
    node_uuid = bytes(fields.get(_NODE_UUID, b"")).decode("utf-8")
    return node_uuid, fields.get(_REQUEST_DATA, memoryview(b""))


def encode_response(data: bytes | memoryview) -> bytes:
    """Return a Response."""
    return _field(_RESPONSE_DATA, data)


def decode_response(wire: bytes) -> memoryview:
    """Return the data of a Response; ValueError where it is none."""
    return dict(_fields(memoryview(wire), (_RESPONSE_DATA,))).get(_RESPONSE_DATA, memoryview(b""))


def _field(number: int, data: bytes | memoryview) -> bytes:
    """Return a length-delimited field; an empty one is left out, as proto3 does."""
    if len(data) == 0:
        return b""
    return b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(len(data)), data))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(wire: memoryview, known: tuple[int, ...]) -> Iterator[tuple[int, memoryview]]:
    """Yield the length-delimited fields with the numbers that are `known`; ValueError for what is no message."""
    at = 0
    while at < len(wire):
        key, at = _read_varint(wire, at)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if number in known and wire_type != _LENGTH_DELIMITED:
            raise ValueError(f"field {number} has the wire type {wire_type}")
        if wire_type == _VARINT:
            _, at = _read_varint(wire, at)
            continue
        length = _FIXED_BYTES.get(wire_type)
        if wire_type == _LENGTH_DELIMITED:
            length, at = _read_varint(wire, at)
        if length is None:
            raise ValueError(f"field {number} has the unknown wire type {wire_type}")
        if length > len(wire) - at:
            raise ValueError(f"field {number} is cut short")
        if number in known:
            yield number, wire[at : at + length]
        at += length


def _read_varint(wire: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(wire[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number is cut short, or too long")
