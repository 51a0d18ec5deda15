"""STATE's salt is made once, whole and on the medium, and never replaced by another one."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from luksctl.errors import KeyRejected, ProviderUnavailable, TokenInvalid
from luksctl.node.salt import FILE_NAME, StateSalt
from luksctl.secret import Secret


def _salt(directory: Path) -> StateSalt:
    return StateSalt(lambda: str(directory), lambda _: None)


def _content(secret: Secret) -> bytes:
    with secret, secret.view() as view:
        return bytes(view)


def test_a_salt_is_made_in_the_form_and_with_the_mode_of_talos(tmp_path: Path) -> None:
    """Only root reads it; nothing else is left in STATE."""
    made = _content(_salt(tmp_path).existing_or_new())
    path = tmp_path / FILE_NAME
    assert path.name == "encryption-salt.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "diskSalt:\n" + "".join(f"    - {number}\n" for number in made)
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_salt_that_is_there_stays(tmp_path: Path) -> None:
    """Whoever asks again, and however, gets the same one."""
    first = _content(_salt(tmp_path).existing_or_new())
    inode = (tmp_path / FILE_NAME).stat().st_ino
    assert _content(_salt(tmp_path).existing_or_new()) == first
    assert _content(_salt(tmp_path).existing()) == first
    assert (tmp_path / FILE_NAME).stat().st_ino == inode


def test_a_new_salt_is_told_once(tmp_path: Path) -> None:
    """Slots that were locked to a lost one are not forgotten in silence; one that is there is no news."""
    told: list[str] = []
    salt = StateSalt(lambda: str(tmp_path), told.append)
    salt.existing_or_new().close()
    salt.existing_or_new().close()
    assert told == [f"STATE: made the salt for keys that are locked to it ({tmp_path / FILE_NAME})"]


def test_many_at_once_get_one_salt(tmp_path: Path) -> None:
    """Two keys that were locked to different salts would be one key that opens nothing."""
    found: list[bytes] = []
    askers = [Thread(target=lambda: found.append(_content(_salt(tmp_path).existing_or_new()))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(found) == 8
    assert set(found) == {_content(_salt(tmp_path).existing())}
    assert os.listdir(tmp_path) == [FILE_NAME]


@pytest.mark.parametrize("leftover", [b"", b"diskSalt:\n    - 1", b"x" * 10000])
def test_a_cut_while_making_leaves_nothing_that_counts(tmp_path: Path, leftover: bytes) -> None:
    """Until the file is renamed, there is no salt; the next attempt makes a whole one over what is left."""
    (tmp_path / f"{FILE_NAME}.new").write_bytes(leftover)
    with pytest.raises(TokenInvalid, match="no salt"):
        _salt(tmp_path).existing()
    assert len(_content(_salt(tmp_path).existing_or_new())) == 32
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_the_salt_is_synced_before_it_is_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that is locked to a salt which a power cut then takes would be lost; so is one of a killed process."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    _salt(tmp_path).existing_or_new().close()
    assert synced == [str(tmp_path / f"{FILE_NAME}.new"), str(tmp_path)]
    synced.clear()
    _salt(tmp_path).existing_or_new().close()
    assert synced == [str(tmp_path / FILE_NAME), str(tmp_path)]


def test_a_missing_salt_is_an_error_for_who_needs_the_old_one(tmp_path: Path) -> None:
    """No waiting mends it, and no new one opens anything."""
    with pytest.raises(TokenInvalid, match="there is no salt in STATE") as caught:
        _salt(tmp_path).existing()
    assert "backup" in (caught.value.hint or "")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("torn", [b"", b"diskSalt:\n    - 1\n", bytes(64)])
def test_a_damaged_salt_is_never_replaced(tmp_path: Path, torn: bytes) -> None:
    """Not even for a new key: what is left of it may be all that is left of the old ones."""
    path = tmp_path / FILE_NAME
    path.write_bytes(torn)
    for ask in (_salt(tmp_path).existing, _salt(tmp_path).existing_or_new):
        with pytest.raises(KeyRejected, match="damaged"):
            ask()
    assert path.read_bytes() == torn


def test_without_state_there_is_no_salt_for_now() -> None:
    """STATE may still be mounted, so waiting may help."""
    salt = StateSalt(lambda: None, pytest.fail)
    for ask in (salt.existing, salt.existing_or_new):
        with pytest.raises(ProviderUnavailable, match="STATE is not mounted"):
            ask()


def test_a_state_that_takes_or_gives_nothing_is_unavailable(tmp_path: Path) -> None:
    """A directory in the file's place stands for a disk with errors; one that is gone for a STATE without room."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        _salt(tmp_path).existing()
    with pytest.raises(ProviderUnavailable, match="cannot be written"):
        _salt(tmp_path / "gone").existing_or_new()
