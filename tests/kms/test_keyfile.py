"""The master key file: a wrong passphrase, damage at every byte, and a power cut at every write."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from luksctl.errors import DeviceError, Refused, SealError
from luksctl.kms.keyfile import Costs, expect_passphrase, make_key_file, read_key, replace_key_file
from luksctl.kms.keyring import Keyring
from luksctl.secret import Secret
from tests.kms.serving import CHEAP, PASSPHRASE


def _ask(passphrase: bytes = PASSPHRASE) -> Callable[[], Secret]:
    return lambda: Secret.take(passphrase)


def _nobody() -> Secret:
    raise AssertionError("the passphrase was asked for")


def _text(keyring: Keyring) -> bytes:
    with keyring.text() as text, text.view() as view:
        return bytes(view)


def _made(path: Path, keyring: Keyring) -> bytes:
    with Secret.take(PASSPHRASE) as passphrase:
        make_key_file(str(path), keyring, passphrase, CHEAP)
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a key file with two versions."""
    path = tmp_path / "master.key"
    _made(path, Keyring.new(1).rotated(2))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """All versions with their keys, and nobody but the owner may read the file."""
    keyring, path = Keyring.new(1_700_000_000).rotated(1_700_000_001), tmp_path / "master.key"
    _made(path, keyring)
    with read_key(str(path), _ask()) as again:
        assert _text(again) == _text(keyring)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_what_the_documents_say(tmp_path: Path) -> None:
    """Opened by another Argon2id, with every other field authenticated."""
    keyring = Keyring.new(1)
    fields = json.loads(_made(tmp_path / "master.key", keyring))
    sealed, salt, nonce = (base64.b64decode(fields.pop(name)) for name in ("sealed", "salt", "nonce"))
    key = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=8).derive(PASSPHRASE)
    kept = {**fields, "salt": base64.b64encode(salt).decode(), "nonce": base64.b64encode(nonce).decode()}
    authenticated = json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
    assert AESGCM(key).decrypt(nonce, sealed, authenticated) == _text(keyring)


def test_the_usual_costs_are_those_of_the_documents() -> None:
    """docs/kms-server.md names them."""
    assert Costs() == Costs(256 * 1024, 4, 4)


def test_a_wrong_passphrase_opens_nothing(file: Path) -> None:
    """It says so, and does not say more."""
    with pytest.raises(SealError, match="passphrase is wrong"):
        read_key(str(file), _ask(b"another passphrase"))


def test_damage_is_found_wherever_it_is(file: Path) -> None:
    """Each byte changed, one after the other: the same keys, or an error; never other keys."""
    good = file.read_bytes()
    with read_key(str(file), _ask()) as keyring:
        wanted = _text(keyring)
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ 0x04]) + good[position + 1 :])
        try:
            with read_key(str(file), _ask()) as again:
                assert _text(again) == wanted, position
        except SealError:
            continue


def test_a_part_of_it_is_no_key_file(file: Path) -> None:
    """Cut at every length."""
    good = file.read_bytes()
    for length in range(len(good) - 1):  # without the last newline it is whole
        file.write_bytes(good[:length])
        with pytest.raises(SealError):
            read_key(str(file), _ask())


@pytest.mark.parametrize("field", ["memoryKiB", "time", "lanes"])
def test_costs_out_of_bounds_are_not_paid(file: Path, field: str) -> None:
    """Who can write the file cannot have the server reckon for ever."""
    fields = json.loads(file.read_bytes())
    file.write_text(json.dumps({**fields, field: 2**31}), encoding="utf-8")
    with pytest.raises(SealError, match="out of bounds"):
        read_key(str(file), _ask())


@pytest.mark.parametrize("change", [{"kind": "other"}, {"format": 2}, {"kdf": "scrypt"}, {"time": True}, {"salt": 5}])
def test_other_forms_are_refused(file: Path, change: dict[str, Any]) -> None:
    """Of a later luksctl, or of nobody's."""
    fields = json.loads(file.read_bytes())
    file.write_text(json.dumps({**fields, **change}), encoding="utf-8")
    with pytest.raises(SealError):
        read_key(str(file), _ask())


def test_a_key_is_never_written_over_by_making_one(file: Path) -> None:
    """The old one may be all that opens the disks of a thousand nodes."""
    good = file.read_bytes()
    with Secret.take(PASSPHRASE) as passphrase, pytest.raises(Refused, match="there already"):
        make_key_file(str(file), Keyring.new(1), passphrase, CHEAP)
    assert file.read_bytes() == good


def test_no_file_says_what_to_do(tmp_path: Path) -> None:
    """The next command is named, and nobody is asked for a passphrase."""
    with pytest.raises(DeviceError, match="no master key") as error:
        read_key(str(tmp_path / "master.key"), _nobody)
    assert error.value.hint == "luksctl kms init"


def test_an_unsealed_key_is_read_as_a_credential_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anywhere else somebody forgot to seal it."""
    path = tmp_path / "luksctl-kms.key"
    keyring = Keyring.new(1)
    path.write_bytes(_text(keyring))
    with pytest.raises(Refused, match="not sealed"):
        read_key(str(path), _nobody)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with read_key(str(path), _nobody) as again:
        assert _text(again) == _text(keyring)


def test_a_short_passphrase_is_none() -> None:
    """Whoever has the file would guess it."""
    with Secret.take(b"seven..") as passphrase, pytest.raises(Refused, match="protects nothing"):
        expect_passphrase(passphrase)


class _Cut(BaseException):
    """The power went."""


_WRITES = ("open", "fchmod", "ftruncate", "fsync", "rename", "close", "unlink")


class _Power:
    """Goes at the `after`-th of the calls that change something, or at none of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.calls = 0
        self._after = after
        for name in _WRITES:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls > self._after:
                raise _Cut
            return real(*args, **kwargs)

        return call


def _calls_of(replace: Callable[[], None]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        power = _Power(patch, after=1000)
        replace()
        return power.calls


def test_a_cut_at_any_write_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """One or the other opens, with its own passphrase, and the next attempt succeeds."""
    path = tmp_path / "master.key"
    old, new = Keyring.new(1), Keyring.new(1).rotated(2)

    def replace() -> None:
        with Secret.take(b"the new passphrase") as passphrase:
            replace_key_file(str(path), new, passphrase, CHEAP)

    good = _made(path, old)
    found = set()
    for after in range(_calls_of(replace) + 1):
        path.write_bytes(good)
        with pytest.MonkeyPatch.context() as patch:
            _Power(patch, after)
            with suppress(_Cut):
                replace()
        is_old = path.read_bytes() == good
        found.add(is_old)
        with read_key(str(path), _ask(PASSPHRASE if is_old else b"the new passphrase")) as again:
            assert len(again.versions) == (1 if is_old else 2)
        replace()
        with read_key(str(path), _ask(b"the new passphrase")) as again:
            assert len(again.versions) == 2
    assert found == {True, False}
