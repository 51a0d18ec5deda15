"""The files that the policy names."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import KmsReason, KmsUnavailable
from luksctl.model.config import KmsPolicy
from luksctl.model.meta import KmsAccess
from luksctl.providers.kms_files import read_access
from luksctl.secret import Secret


def test_what_the_files_hold_is_read(tmp_path: Path) -> None:
    """Secrets move into Secrets; the line break behind a token is not part of it."""
    for name in ("ca", "certificate", "key"):
        (tmp_path / name).write_text(f"the {name}\n")
    (tmp_path / "token").write_text("the-token \n")
    found = read_access(
        KmsPolicy(
            allow_plaintext=True,
            alternatives=(("a", ("b",)),),
            ca_files=(str(tmp_path / "ca"),),
            client_certificate=str(tmp_path / "certificate"),
            client_key=str(tmp_path / "key"),
            token_file=str(tmp_path / "token"),
            network="VLAN 7",
            roots=("of the config",),
        )
    )
    assert found == KmsAccess(
        alternatives=(("a", ("b",)),),
        roots=("of the config", "the ca\n"),
        certificate="the certificate\n",
        private_key=Secret.take(b"the key\n"),
        token=Secret.take(b"the-token"),
        allow_plaintext=True,
        note="VLAN 7",
    )
    assert "the" not in repr(found).replace("Secret", "")
    assert (found.endpoints("a"), found.endpoints("c")) == (("a", "b"), ("c",))


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe", b"line\nline"])
def test_a_token_is_one_word(tmp_path: Path, content: bytes) -> None:
    """It is put into a header of a request."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(KmsUnavailable) as caught:
        read_access(KmsPolicy(token_file=str(tmp_path / "token")))
    assert caught.value.reason is KmsReason.NO_FILE


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """It may be there the next time, so asking again may help."""
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    (tmp_path / "no text").write_bytes(b"\xff")
    (tmp_path / "empty").touch()
    for policy in (
        KmsPolicy(ca_files=(str(tmp_path / "none"),)),
        KmsPolicy(ca_files=(str(tmp_path),)),
        KmsPolicy(ca_files=(str(tmp_path / "large"),)),
        KmsPolicy(ca_files=(str(tmp_path / "no text"),)),
        KmsPolicy(client_key=str(tmp_path / "empty")),
    ):
        with pytest.raises(KmsUnavailable, match=str(tmp_path)):
            read_access(policy)
