"""The wire as the proto says: bytes by hand, and a client that knows nothing but the proto."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_tools import protoc  # type: ignore[import-untyped]  # made for the command line

from luksctl.model.kms_wire import SEAL, UNSEAL
from tests.kms.serving import KEY, NODE, Serving, allow, serving

# Nothing of luksctl: field 1 of 36 bytes, field 2 of 32 bytes.
REQUEST = b"\x0a\x24" + NODE.encode() + b"\x12\x20" + KEY

PROTO = """
syntax = "proto3";
package sidero.kms;
service KMSService {
  rpc Seal(Request) returns (Response);
  rpc Unseal(Request) returns (Response);
}
message Request { string node_uuid = 1; bytes data = 2; }
message Response { bytes data = 1; }
"""


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """Serve to one node that is allowed."""
    with serving(tmp_path) as running:
        allow(tmp_path, NODE)
        yield running


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the modules that the generator makes of the proto alone."""
    directory = tmp_path_factory.mktemp("proto")
    (directory / "talos_kms.proto").write_text(PROTO, encoding="utf-8")
    out = f"--python_out={directory}", f"--grpc_python_out={directory}"
    assert protoc.main(["protoc", f"-I{directory}", *out, "talos_kms.proto"]) == 0
    sys.path.insert(0, str(directory))
    yield importlib.import_module("talos_kms_pb2"), importlib.import_module("talos_kms_pb2_grpc")
    sys.path.remove(str(directory))
    del sys.modules["talos_kms_pb2"], sys.modules["talos_kms_pb2_grpc"]


def test_requests_by_hand_are_answered_by_the_byte(server: Serving) -> None:
    """What is sealed comes back as field 1, and unsealed it is the key, as field 1 of 32 bytes."""
    client = server.client()
    sealed = client.raw("/sidero.kms.KMSService/Seal", REQUEST).granted
    assert sealed[:2] == bytes((0x0A, len(sealed) - 2))
    request = b"\x0a\x24" + NODE.encode() + b"\x12" + sealed[1:]
    assert client.raw("/sidero.kms.KMSService/Unseal", request).granted == b"\x0a\x20" + KEY


def test_fields_may_come_in_any_order_and_beside_unknown_ones(server: Serving) -> None:
    """As proto3 has it: later versions of the protocol are understood."""
    request = b"\x12\x20" + KEY + b"\x18\x07\x22\x03abc" + b"\x0a\x24" + NODE.encode()
    assert server.client().raw(SEAL, request).data is not None


@pytest.mark.parametrize(
    "wire",
    [b"", b"\x0a", b"\x0a\x24short", b"\xff" * 40, b"\x0a\x02\xff\xfe\x12\x20" + KEY, REQUEST[:-1], b"\x08\x01"],
    ids=["empty", "no length", "cut text", "garbage", "no utf-8", "cut data", "wrong wire type"],
)
def test_what_is_no_request_is_an_invalid_argument(server: Serving, wire: bytes) -> None:
    """Neither of the calls takes it, and the next request is answered as ever."""
    client = server.client()
    for method in (SEAL, UNSEAL):
        assert client.raw(method, wire).code is grpc.StatusCode.INVALID_ARGUMENT
    assert client.seal().data is not None


def test_a_message_that_is_too_long_is_refused_before_it_is_read(server: Serving) -> None:
    """A request has some hundred bytes; one of megabytes is not even received."""
    client = server.client()
    assert client.seal(data=b"x" * (4 << 20)).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.seal().data is not None
    assert len(server.audit()) == 1


def test_other_methods_do_not_exist(server: Serving) -> None:
    """There are two."""
    assert server.client().raw("/sidero.kms.KMSService/Open", REQUEST).code is grpc.StatusCode.UNIMPLEMENTED


def test_a_client_made_of_the_proto_alone_is_served(server: Serving, generated: tuple[ModuleType, ModuleType]) -> None:
    """Generated messages and stub: sealed and unsealed, and refused with the status."""
    messages, services = generated
    credentials = grpc.ssl_channel_credentials(server.authority.certificate)
    with grpc.secure_channel(server.target, credentials) as channel:
        stub = services.KMSServiceStub(channel)
        sealed = stub.Seal(messages.Request(node_uuid=NODE, data=KEY), timeout=10).data
        assert KEY not in sealed
        assert stub.Unseal(messages.Request(node_uuid=NODE, data=sealed), timeout=10).data == KEY
        with pytest.raises(grpc.RpcError) as refused:
            stub.Unseal(messages.Request(node_uuid=NODE.replace("4", "5"), data=sealed), timeout=10)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
