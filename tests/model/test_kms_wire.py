"""The messages of the KMS protocol, byte by byte, and against the reading of protobuf's own library."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from luksctl.model.kms_wire import decode_request, decode_response, encode_request, encode_response

UUID = "12345678-1234-5678-1234-567812345678"


def official() -> tuple[type, type]:
    """Return Request and Response as protobuf's own library makes them from their description."""
    file = descriptor_pb2.FileDescriptorProto(name="kms.proto", package="sidero.kms", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    fields = {
        "Request": (("node_uuid", kinds.TYPE_STRING), ("data", kinds.TYPE_BYTES)),
        "Response": (("data", kinds.TYPE_BYTES),),
    }
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(members, start=1):
            message.field.add(name=field, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"sidero.kms.{name}")) for name in fields
    )
    return request, response


REQUEST, RESPONSE = official()


def test_a_request_byte_by_byte() -> None:
    """Field 1 is the UUID, field 2 the data."""
    wire = b"\x0a\x24" + UUID.encode() + b"\x12\x20" + bytes(range(32))
    assert encode_request(UUID, bytes(range(32))) == wire
    uuid, data = decode_request(wire)
    assert (uuid, bytes(data)) == (UUID, bytes(range(32)))


def test_a_response_byte_by_byte() -> None:
    """Field 1 is the data; nothing at all is an empty one."""
    assert encode_response(b"sealed") == b"\x0a\x06sealed"
    assert bytes(decode_response(b"\x0a\x06sealed")) == b"sealed"
    assert encode_response(b"") == b""
    assert bytes(decode_response(b"")) == b""


def test_unknown_fields_are_skipped_and_the_last_one_counts() -> None:
    """As proto3 says."""
    unknown = b"\x18\x96\x01" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + b"\x32\x02zz"
    uuid, data = decode_request(b"\x12\x01a" + unknown + b"\x0a\x01u" + b"\x12\x01b")
    assert (uuid, bytes(data)) == ("u", b"b")


@pytest.mark.parametrize(
    "wire",
    [
        b"\x0a",
        b"\x0a\x05abcd",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff" * 11,
        b"\x08\x01",
        b"\x02\x01a",
        b"\x1b\x1c",
        b"\x1e",
        b"\x21\x00",
        b"\x0a\x01\xff",
    ],
)
def test_what_is_no_message_is_refused(wire: bytes) -> None:
    """Cut short, of another type, with the number 0, a group, or not UTF-8."""
    with pytest.raises(ValueError, match=r".+"):
        decode_request(wire)


@given(uuid=st.text(max_size=200), data=st.binary(max_size=300))
def test_the_same_bytes_as_the_official_library(uuid: str, data: bytes) -> None:
    """And each reads what the other wrote."""
    wire = encode_request(uuid, data)
    assert wire == REQUEST(node_uuid=uuid, data=data).SerializeToString()
    ours, view = decode_request(wire)
    assert (ours, bytes(view)) == (uuid, data)
    assert encode_response(data) == RESPONSE(data=data).SerializeToString()
    assert bytes(decode_response(RESPONSE(data=data).SerializeToString())) == data


@given(wire=st.binary(max_size=80))
def test_whatever_arrives_is_read_or_refused(wire: bytes) -> None:
    """A sender decides about every byte."""
    try:
        uuid, data = decode_request(wire)
    except ValueError:
        return
    assert len(uuid.encode()) + len(data) <= len(wire)
