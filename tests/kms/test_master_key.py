"""The master key of a running server: rotated, exchanged, and widened by that of a reference server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luksctl.kms.room import Kms
from luksctl.model.kms import KeyFile
from luksctl.secret import Secret
from tests.kms.serving import CHEAP, KEY, NODE, OTHER, PASSPHRASE, ServerProcess, allow, initialise, metric, until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a KMS with one node that is allowed."""
    initialise(tmp_path)
    allow(tmp_path, NODE)
    return tmp_path


def _key_file(directory: Path) -> KeyFile:
    return KeyFile(str(directory / "master.key"), lambda: Secret.take(PASSPHRASE))


def test_a_rotated_master_key_seals_after_sighup(directory: Path) -> None:
    """In every worker, also in one that starts later; what the old version sealed still opens."""
    with ServerProcess(directory, "--workers", "2") as server:
        client = server.client()
        old = client.seal().granted
        Kms(CHEAP).rotate_key(_key_file(directory))
        assert client.seal().granted[4] == 1
        assert metric(server.status, "luksctl_kms_key_version") == 1
        server.process.send_signal(signal.SIGHUP)
        until(lambda: metric(server.status, "luksctl_kms_key_version") == 2)
        new = client.seal().granted
        assert (old[4], new[4]) == (1, 2)
        assert client.unseal(old).granted == client.unseal(new).granted == KEY
        os.kill(server.children()[1], signal.SIGKILL)
        until(lambda: metric(server.status, "luksctl_kms_worker_starts_total") == 3)
        for _ in range(10):
            other = server.client()
            assert other.seal().granted[4] == 2
            other.close()
        client.close()
    with ServerProcess(directory) as server:
        client = server.client()
        assert client.unseal(old).granted == client.unseal(new).granted == KEY
        client.close()


def test_a_master_key_that_is_another_one_is_not_taken(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nor one that is damaged, or opens with another passphrase: it is told, and what was sealed still opens."""
    elsewhere = tmp_path_factory.mktemp("other")
    initialise(elsewhere)
    own, log = (directory / "master.key").read_bytes(), directory / "audit.log"
    with ServerProcess(directory) as server:
        client = server.client()
        sealed = client.seal().granted
        for number, content in enumerate(((elsewhere / "master.key").read_bytes(), b"damaged", own[:-9])):
            (directory / "master.key").write_bytes(content)
            # A worker opens its log anew after the first process has read the key.
            log.rename(directory / f"audit.log.{number}")
            server.process.send_signal(signal.SIGHUP)
            until(log.exists)
            assert client.unseal(sealed).granted == KEY
        client.close()
    assert "holds another master key; only a restart takes that" in server.said
    assert server.said.count("the master key that was there before is used on") == 3


def test_what_a_reference_server_sealed_opens_once_its_key_is_imported(directory: Path) -> None:
    """For the nodes that are allowed, and no others; a fleet moves without a node that does not boot."""
    file = directory / "reference.key"
    file.write_bytes(bytes(range(32)))
    nonce = b"n" * 12
    sealed = nonce + AESGCM(bytes(range(32))).encrypt(nonce, KEY, None)
    with ServerProcess(directory) as server:
        client = server.client()
        assert client.unseal(sealed).code is grpc.StatusCode.INVALID_ARGUMENT
        assert Kms(CHEAP).import_key(_key_file(directory), str(file)) == 1
        server.process.send_signal(signal.SIGHUP)
        until(lambda: client.unseal(sealed).data is not None)
        assert client.unseal(sealed).granted == KEY
        assert client.unseal(sealed, OTHER).code is grpc.StatusCode.PERMISSION_DENIED
        for wrong in (sealed[:-1], sealed[:-1] + b"x", b"\x01" + sealed[1:]):
            assert client.unseal(wrong).code is grpc.StatusCode.INVALID_ARGUMENT
        new = client.seal().granted
        assert len(new) == 65
        assert client.unseal(new).granted == KEY
        client.close()
