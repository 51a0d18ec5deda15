"""--compat: what Talos' reference server does, by the byte, and at once."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luksctl.errors import SealError
from luksctl.kms.reference import ReferenceBackend
from luksctl.secret import Secret
from tests.kms.serving import KEY, NODE, OTHER, ServerProcess

FILE = bytes(range(100, 132))


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    """Return a server with a key file as the reference server has it."""
    (tmp_path / "kms.key").write_bytes(FILE)
    return ServerProcess(tmp_path, "--compat", "--no-tls", "--key", str(tmp_path / "kms.key"))


def test_any_node_is_answered_with_the_bytes_of_the_reference(server: ServerProcess) -> None:
    """Nonce | ciphertext | tag under the file's bytes, nothing authenticated; one node opens what another sealed."""
    with server:
        client = server.client()
        for uuid in (NODE, "", "not a uuid at all"):
            sealed = client.seal(uuid).granted
            assert len(sealed) == 60
            assert AESGCM(FILE).decrypt(sealed[:12], sealed[12:], None) == KEY
            assert client.unseal(sealed, OTHER).granted == KEY
        by_hand = bytes(12) + AESGCM(FILE).encrypt(bytes(12), KEY, None)
        assert client.unseal(by_hand).granted == KEY
        client.close()
    assert "answers ANY node" in server.said


def test_a_mismatch_is_a_success_with_random_bytes(server: ServerProcess) -> None:
    """32 of them, other ones each time: the node finds out by its keyslot."""
    with server:
        client = server.client()
        sealed = client.seal().granted
        wrong = sealed[:-1] + bytes([sealed[-1] ^ 1])
        answers = {client.unseal(data).granted for data in (wrong, wrong, bytes(60))}
        client.close()
    assert len(answers) == 3
    assert {len(answer) for answer in answers} == {32}
    assert KEY not in answers


def test_other_lengths_are_refused(server: ServerProcess) -> None:
    """32 bytes are sealed and 60 unsealed, nothing else."""
    with server:
        client = server.client()
        for reply in (client.seal(data=KEY[:-1]), client.seal(data=KEY + b"x"), client.seal(data=b"")):
            assert reply.code is grpc.StatusCode.INVALID_ARGUMENT
        for length in (0, 59, 61, 69):
            assert client.unseal(bytes(length)).code is grpc.StatusCode.INVALID_ARGUMENT
        client.close()


@pytest.mark.parametrize("length", [1, 15, 31, 33, 64])
def test_a_key_file_of_another_length_is_none(length: int) -> None:
    """AES has keys of 16, 24 and 32 bytes."""
    with pytest.raises(SealError, match=f"of {length} bytes"):
        ReferenceBackend(Secret.random(length))


@pytest.mark.parametrize("length", [16, 24, 32])
def test_every_length_of_aes_works(length: int) -> None:
    """The key file's length chooses the cipher."""
    backend = ReferenceBackend(Secret.random(length))
    into = bytearray(100)
    assert backend.unseal(b"", memoryview(backend.seal(b"", memoryview(KEY))), memoryview(into)) == 32
    assert into == KEY + bytes(68)
