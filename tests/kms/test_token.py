"""--token-file: who does not bring the token gets nothing, and learns nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc
import pytest

from luksctl.errors import Refused
from luksctl.kms.room import checked
from luksctl.model.kms import ServeOptions
from tests.kms.serving import KEY, NODE, OTHER, ServerProcess, allow, initialise, serving

TOKEN = "a-token-for-tests-that-nobody-guesses"
DIGEST = hashlib.sha256(TOKEN.encode()).digest()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_lets_allowed_nodes_in(tmp_path: Path, scheme: str) -> None:
    """And nobody else: a node that is not in the list is refused with it as without it."""
    with serving(tmp_path, token=DIGEST) as running:
        allow(tmp_path, NODE)
        client = running.client()
        client.metadata = (("authorization", f"{scheme} {TOKEN}"),)
        assert client.unseal(client.seal().granted).granted == KEY
        assert client.seal(OTHER).code is grpc.StatusCode.PERMISSION_DENIED
        assert running.outcomes() == ["ok", "ok", "unknown"]


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", f"Bearer {TOKEN}x"),),
        (("authorization", "Bearer "),),
        (("authorization", f"Basic {TOKEN}"),),
        (("authorization", TOKEN),),
        (("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer other")),
        (("token", TOKEN),),
    ],
)
def test_without_the_token_every_node_is_refused_alike(tmp_path: Path, metadata: tuple[tuple[str, str], ...]) -> None:
    """Allowed and unknown ones get what an unknown one gets with the token; nobody is noted."""
    with serving(tmp_path, token=DIGEST) as running:
        allow(tmp_path, NODE)
        client = running.client()
        client.metadata = metadata
        for uuid in (NODE, OTHER):
            reply = client.seal(uuid)
            assert (reply.code, reply.details) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "this node may not use this KMS",
            )
        assert running.outcomes() == ["wrong-token"] * 2
        running.notebook.flush()
        assert len(running.store.every()) == 1


def test_the_token_is_read_from_a_file_and_shown_nowhere(tmp_path: Path) -> None:
    """Without the newline at its end; neither the log nor the process list has it."""
    initialise(tmp_path)
    allow(tmp_path, NODE)
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    with ServerProcess(tmp_path, "--token-file", str(tmp_path / "token")) as server:
        client = server.client()
        assert client.seal().code is grpc.StatusCode.PERMISSION_DENIED
        client.metadata = (("authorization", f"Bearer {TOKEN}"),)
        assert client.seal().data is not None
        client.close()
        shown = Path(f"/proc/{server.process.pid}/cmdline").read_text(encoding="utf-8")
    for text in (server.said, shown, (tmp_path / "audit.log").read_text(encoding="utf-8")):
        assert TOKEN not in text
    assert "and the token is that node" in server.said


def test_a_token_that_is_short_is_refused(tmp_path: Path) -> None:
    """Before anything is served."""
    (tmp_path / "token").write_text("short\n", encoding="utf-8")
    with pytest.raises(Refused, match="of 5 characters"):
        checked(ServeOptions(token_file=str(tmp_path / "token")))
