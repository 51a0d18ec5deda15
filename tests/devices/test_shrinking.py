"""What resize2fs overwrites is saved before it starts, and put back bit for bit; else nothing is touched."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from luksctl.devices import saving, shrinking
from luksctl.errors import Refused
from luksctl.model.probe import Device
from luksctl.units import MIB
from tests.reconcile.plain import e2fsck, files_of, plain_ext4

SIZE_BYTES = 48 * MIB
SHRUNK_BYTES = 16 * MIB


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """Return a filesystem that reaches to the end of its device."""
    node = plain_ext4(tmp_path, filesystem_bytes=SIZE_BYTES, size_bytes=SIZE_BYTES, full=0.1)
    return Device(str(node.state), SIZE_BYTES, image=True)


def rehearse(device: Device, saved: Path) -> str:
    """Rehearse the shrinking, with the copy beside the device."""
    return shrinking.rehearse(device, SHRUNK_BYTES, f"{device.path}.scratch", str(saved))


def test_what_was_shrunk_is_put_back(device: Device, tmp_path: Path) -> None:
    """The rehearsal writes nothing; afterwards the filesystem is as long as it was, with all of its files."""
    state, saved = Path(device.path), tmp_path / "saved"
    before, files = state.read_bytes(), files_of(state)
    digest = rehearse(device, saved)
    assert state.read_bytes() == before
    assert not Path(f"{device.path}.scratch").exists()
    shrinking.shrink(device, SHRUNK_BYTES)
    shrunk = state.read_bytes()
    assert shrunk[1024:2048] != before[1024:2048]
    # A disk keeps what is behind the filesystem; resize2fs cuts a file off there.
    state.write_bytes(shrunk[:SHRUNK_BYTES] + before[SHRUNK_BYTES:])
    assert "taken back" in shrinking.put_back(device, str(saved), digest)
    e2fsck(state)
    assert state.read_bytes()[1024:2048] == before[1024:2048]
    assert files_of(state) == files


def test_a_file_that_was_cut_off_was_shrunk_to_its_end(device: Device, tmp_path: Path) -> None:
    """That is the last thing that resize2fs does, so nothing is put back; what was cut off is there no more."""
    state, saved = Path(device.path), tmp_path / "saved"
    digest, files = rehearse(device, saved), files_of(state)
    shrinking.shrink(device, SHRUNK_BYTES)
    state.write_bytes(state.read_bytes()[:SHRUNK_BYTES])
    assert shrinking.put_back(device, str(saved), digest) == "it had been shrunk to its end"
    assert state.stat().st_size == SIZE_BYTES
    e2fsck(state)
    assert files_of(state) == files


@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
def test_nothing_is_put_back_from_another_file(device: Device, tmp_path: Path, damage: str) -> None:
    """The file is the one that META knows, or a person has to look."""
    state, saved = Path(device.path), tmp_path / "saved"
    digest = rehearse(device, saved)
    content = saved.read_bytes()
    match damage:
        case "gone":
            saved.unlink()
        case "cut":
            saved.write_bytes(content[:-1])
        case _:
            saved.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = state.read_bytes()
    with pytest.raises(Refused, match="may be half shrunk"):
        shrinking.put_back(device, str(saved), digest)
    assert state.read_bytes() == before


def test_without_room_for_what_is_overwritten_nothing_is_touched(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STATE is small: what does not fit is refused with what to do, and half a file is not left there."""

    def full(_fd: int, _data: bytes, _offset: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = Path(device.path).read_bytes()
    monkeypatch.setattr(saving, "write_fully", full)
    (tmp_path / "kept").mkdir()
    with pytest.raises(Refused, match="has no room") as refusal:
        rehearse(device, tmp_path / "kept" / "saved")
    assert "free some space" in (refusal.value.hint or "")
    assert list((tmp_path / "kept").iterdir()) == []
    assert Path(device.path).read_bytes() == before
