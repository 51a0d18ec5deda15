"""Where the master key is read from, at the start and again: the credential of a service, the file beside the list."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.errors import SealError
from luksctl.kms.key_source import KeySource
from luksctl.kms.keyring import Keyring
from luksctl.kms.room import Kms
from luksctl.model.kms import KeyFile, ServeOptions
from luksctl.secret import Secret
from tests.kms.serving import CHEAP, PASSPHRASE, initialise


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a KMS, whose service has its master key and passphrase as credentials."""
    initialise(tmp_path)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "luksctl-kms.key").write_bytes((tmp_path / "master.key").read_bytes())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    return tmp_path


def _file(directory: Path) -> KeyFile:
    return KeyFile(str(directory / "master.key"), lambda: Secret.take(PASSPHRASE))


def _source(directory: Path, asked: list[str]) -> KeySource:
    def ask() -> Secret:
        asked.append("asked")
        return Secret.take(PASSPHRASE)

    return KeySource(ServeOptions(directory=str(directory)), ask)


def test_a_rotated_file_counts_although_the_credential_is_older(directory: Path) -> None:
    """Twice in a row; the passphrase is asked for once, and nothing is new where nothing was rotated."""
    asked: list[str] = []
    source = _source(directory, asked)
    key = source.read()
    assert source.renewed(key) is None
    for version in (2, 3):
        Kms(CHEAP).rotate_key(_file(directory))
        newer = source.renewed(key)
        assert newer is not None
        assert Keyring(Secret.join(newer)).newest.version == version
        key = newer
        assert source.renewed(key) is None
    assert asked == ["asked"]
    source.close()


def test_a_file_with_another_passphrase_is_told(directory: Path) -> None:
    """The one of the start is what there is; the key of the start goes on."""
    source = _source(directory, [])
    key = source.read()
    Kms(CHEAP).change_passphrase(_file(directory), lambda: Secret.take(b"quite another one"))
    with pytest.raises(SealError, match="passphrase is wrong"):
        source.renewed(key)


def test_nobody_is_asked_where_the_start_needed_no_passphrase(directory: Path) -> None:
    """An unsealed key, as a credential bound to a TPM gives it: a reload for the log looks at no sealed file."""
    with Kms(CHEAP).export_key(_file(directory)) as exported, exported.view() as view:
        (directory / "credentials" / "luksctl-kms.key").write_bytes(bytes(view))
    asked: list[str] = []
    source = _source(directory, asked)
    key = source.read()
    Kms(CHEAP).rotate_key(_file(directory))
    assert source.renewed(key) is None
    assert asked == []
