"""The directory under a mount point: what may be sealed, what may not, and that nothing can be written below."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.devices import mountpoints
from luksctl.devices.mountpoints import MountedOver, NotSealable, Sealed, prepare, unprepare
from luksctl.errors import DeviceError
from tests.devices.fake_tree import FakeTree, needs_root


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Provide a path for a mount point that is not there yet, and take the seal off afterwards."""
    path = tmp_path / "system" / "state"
    yield path
    unprepare(str(path))


def refuse(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let the filesystem answer the flag ioctl with `code`."""

    def answer(_: int) -> int:
        raise OSError(code, "refused")

    monkeypatch.setattr(mountpoints, "_get_flags", answer)


@needs_root
def test_sealed_directory_takes_no_file(place: Path, kernel: FakeTree) -> None:
    """Not even root can write below a volume that stayed locked; the second run finds it done."""
    for _ in range(2):
        answer = prepare(str(place), kernel.tree)
        if isinstance(answer, NotSealable):
            pytest.skip(answer.reason)
        assert answer == Sealed(str(place))
    assert place.stat().st_mode & 0o777 == 0
    with pytest.raises(PermissionError):
        (place / "file").write_text("plain")


@needs_root
def test_unprepared_directory_is_ordinary_again(place: Path, kernel: FakeTree) -> None:
    """Everything that `prepare` did is undone."""
    prepare(str(place), kernel.tree)
    unprepare(str(place))
    (place / "file").write_text("fine")
    assert place.stat().st_mode & 0o777 == 0o755
    (place / "file").unlink()


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM])
def test_filesystem_without_the_flag_gives_a_reason(
    place: Path, kernel: FakeTree, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The caller then binds an empty directory over it; mode 0000 is set all the same."""
    with monkeypatch.context() as patch:
        refuse(patch, code)
        answer = prepare(str(place), kernel.tree)
    assert isinstance(answer, NotSealable)
    assert answer.reason
    assert place.stat().st_mode & 0o777 == 0


def test_other_errors_are_errors(place: Path, kernel: FakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing disk is not taken for a filesystem without the flag."""
    with monkeypatch.context() as patch:
        refuse(patch, errno.EIO)
        with pytest.raises(DeviceError, match="cannot be prepared"):
            prepare(str(place), kernel.tree)


def test_directory_with_content_is_refused_and_kept(place: Path, kernel: FakeTree) -> None:
    """What is in it may be plain text of an earlier boot; the mount would hide it."""
    place.mkdir(parents=True)
    (place / "config.yaml").write_text("secret")
    with pytest.raises(DeviceError, match=r"not empty: config\.yaml"):
        prepare(str(place), kernel.tree)
    assert (place / "config.yaml").read_text() == "secret"


def test_link_in_the_place_of_the_directory_is_refused(place: Path, kernel: FakeTree, tmp_path: Path) -> None:
    """Sealing would hit the directory behind the link."""
    target = tmp_path / "target"
    target.mkdir()
    place.parent.mkdir(parents=True)
    place.symlink_to(target)
    with pytest.raises(DeviceError):
        prepare(str(place), kernel.tree)
    assert target.stat().st_mode & 0o777 != 0
    place.unlink()


def test_file_in_the_place_of_the_directory_is_refused(place: Path, kernel: FakeTree) -> None:
    """A file is not replaced."""
    place.parent.mkdir(parents=True)
    place.write_text("data")
    with pytest.raises(DeviceError, match="cannot be prepared"):
        prepare(str(place), kernel.tree)
    place.unlink()


def test_mounted_volume_is_left_alone(place: Path, kernel: FakeTree) -> None:
    """Run on a live system, the root of the mounted filesystem must not be made immutable."""
    place.mkdir(parents=True)
    (place / "data").write_text("live")
    kernel.mount("8:2", "/dev/sda2", str(place))
    assert prepare(str(place), kernel.tree) == MountedOver(str(place))
    assert place.stat().st_mode & 0o777 != 0


def test_undoing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    """`disable` may run twice."""
    unprepare(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_services_reach_the_volume_whatever_the_umask(place: Path, kernel: FakeTree) -> None:
    """The directories above are made as well, and an operator's umask would keep everybody else out of them."""
    before = os.umask(0o077)
    try:
        prepare(str(place), kernel.tree)
    finally:
        os.umask(before)
    assert place.parent.stat().st_mode & 0o777 == 0o755
