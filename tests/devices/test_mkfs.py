"""Making filesystems with the real programs, and every way in which a program can fail."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import pytest

from luksctl.devices import mkfs, programs
from luksctl.devices.mkfs import MKFS_EXT4, MKFS_XFS, make_filesystem, mkfs_problem
from luksctl.devices.programs import Program, locate, run
from luksctl.errors import DeviceError, NotBlank
from luksctl.model.config import Filesystem
from luksctl.units import MIB
from tests.devices.fake_tree import BLKID, make_image, needs, read_signature

UUID = "6f2b3c1e-94c1-4a57-8a4e-0c6f3c1d2e3f"


def xfs_bytes(path: str) -> int:
    """Return the size that an xfs superblock states (block size at 4, blocks at 8, big-endian)."""
    block, blocks = struct.unpack(">IQ", Path(path).read_bytes()[4:16])
    return int(block * blocks)


def ext4_bytes(path: str) -> int:
    """Return the size that an ext superblock states (blocks at 1028, log block size at 1048)."""
    data = Path(path).read_bytes()[1024:2048]
    return int(struct.unpack_from("<I", data, 4)[0] * (1024 << struct.unpack_from("<I", data, 24)[0]))


def nothing(path: str) -> None:
    """Say that there is no signature."""
    assert os.path.exists(path)


@needs(MKFS_XFS)
@needs(BLKID)
def test_small_xfs_has_label_and_uuid(tmp_path: Path) -> None:
    """STATE is below what mkfs.xfs supports, and still gets its label and our UUID."""
    image = make_image(tmp_path / "image", 84 * MIB)
    make_filesystem(image, Filesystem.XFS, "STATE", uuid=UUID, size_bytes=84 * MIB, signature=read_signature)
    found = read_signature(image)
    assert found is not None
    assert (found.type, found.label, found.uuid) == ("xfs", "STATE", UUID)
    assert xfs_bytes(image) == 84 * MIB


@needs(MKFS_XFS)
def test_xfs_keeps_the_space_behind_it_free(tmp_path: Path) -> None:
    """A plain EPHEMERAL leaves room for a header at its end; nothing is written there."""
    image = make_image(tmp_path / "image", 384 * MIB)
    size = 352 * MIB + 512
    make_filesystem(image, Filesystem.XFS, "EPHEMERAL", uuid=None, size_bytes=size, signature=nothing)
    assert xfs_bytes(image) == 352 * MIB
    with open(image, "rb") as file:
        file.seek(352 * MIB)
        assert not any(file.read())


@needs(MKFS_EXT4)
@needs(BLKID)
def test_ext4_has_label_uuid_and_size(tmp_path: Path) -> None:
    """The size is given in bytes and ends on a block."""
    image = make_image(tmp_path / "image", 64 * MIB)
    size = 32 * MIB + 4095
    make_filesystem(image, Filesystem.EXT4, "EPHEMERAL", uuid=UUID, size_bytes=size, signature=read_signature)
    found = read_signature(image)
    assert found is not None
    assert (found.type, found.label, found.uuid) == ("ext4", "EPHEMERAL", UUID)
    assert ext4_bytes(image) == 32 * MIB


@needs(MKFS_EXT4)
@needs(MKFS_XFS)
@needs(BLKID)
@pytest.mark.parametrize("over", list(Filesystem))
def test_nothing_is_made_over_a_filesystem(tmp_path: Path, over: Filesystem) -> None:
    """mkfs.ext4 without a terminal would not look; the device stays as it was, byte for byte."""
    image = make_image(tmp_path / "image", 64 * MIB)
    make_filesystem(image, Filesystem.EXT4, "DATA", uuid=None, size_bytes=64 * MIB, signature=nothing)
    before = Path(image).read_bytes()
    with pytest.raises(NotBlank, match="ext4"):
        make_filesystem(image, over, "STATE", uuid=None, size_bytes=64 * MIB, signature=read_signature)
    assert Path(image).read_bytes() == before


@needs(MKFS_EXT4)
@needs(MKFS_XFS)
def test_xfs_itself_refuses_what_the_probe_overlooked(tmp_path: Path) -> None:
    """Without -f the program looks once more; its own words are in the error."""
    image = make_image(tmp_path / "image", 64 * MIB)
    make_filesystem(image, Filesystem.EXT4, "DATA", uuid=None, size_bytes=64 * MIB, signature=nothing)
    with pytest.raises(DeviceError, match="existing filesystem") as caught:
        make_filesystem(image, Filesystem.XFS, "STATE", uuid=None, size_bytes=64 * MIB, signature=nothing)
    assert caught.value.operation == "mkfs.xfs"


def test_filesystem_larger_than_the_device_is_refused(tmp_path: Path) -> None:
    """An image file would silently grow."""
    image = make_image(tmp_path / "image", MIB)
    with pytest.raises(DeviceError, match="does not fit"):
        make_filesystem(image, Filesystem.EXT4, "DATA", uuid=None, size_bytes=2 * MIB, signature=nothing)
    assert os.path.getsize(image) == MIB


@pytest.mark.parametrize(
    ("version", "size_mib", "expected"), [("6.1.0", 84, True), ("5.18.0", 84, False), ("6.1.0", 400, False)]
)
def test_unsupported_is_said_where_it_is_known_and_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, size_mib: int, *, expected: bool
) -> None:
    """Versions before 5.19 make small filesystems without the option, and does not know it."""
    program, log = tmp_path / "mkfs.xfs", tmp_path / "log"
    program.write_text(f'#!/bin/sh\n[ "$1" = -V ] && echo "mkfs.xfs version {version}" && exit\necho "$@" > {log}\n')
    program.chmod(0o755)
    monkeypatch.setattr(mkfs, "locate", lambda _: str(program))
    image = make_image(tmp_path / "image", size_mib * MIB)
    make_filesystem(image, Filesystem.XFS, "STATE", uuid=UUID, size_bytes=size_mib * MIB, signature=nothing)
    words = log.read_text().split()
    assert ("--unsupported" in words) is expected
    assert "-f" not in words
    assert words[:7] == ["-q", "-n", "ftype=1", "-L", "STATE", "-m", f"uuid={UUID}"]


def test_missing_program_names_its_package() -> None:
    """The next command installs it."""
    with pytest.raises(DeviceError, match=r"mkfs\.none is not installed") as caught:
        locate(Program("mkfs.none", "noneprogs"))
    assert caught.value.hint == "apt-get install noneprogs"


def test_failing_program_is_quoted_with_its_last_lines() -> None:
    """Exit code and the end of what it said are in the message; the beginning is not."""
    script = "for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3"
    with pytest.raises(DeviceError) as caught:
        run(["/bin/sh", "-c", script], timeout_s=30)
    assert str(caught.value) == "sh: exited with 3: line 3 | line 4 | line 5 | line 6 | line 7"


def test_program_killed_by_a_signal_is_told_from_a_failing_one() -> None:
    """A crash is no exit code."""
    with pytest.raises(DeviceError, match="ended by signal 9"):
        run(["/bin/sh", "-c", "kill -9 $$"], timeout_s=30)


def test_program_sees_no_environment_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user exported or typed does not change what a program does."""
    monkeypatch.setenv("MKE2FS_CONFIG", "/nowhere")
    names = run(["/usr/bin/env"], timeout_s=30).split()
    assert sorted(name.partition("=")[0] for name in names) == ["LC_ALL", "PATH"]
    assert run(["/bin/sh", "-c", "cat; echo end"], timeout_s=30) == "end\n"


def test_program_that_does_not_end_is_killed_and_reaped(tmp_path: Path) -> None:
    """After the timeout there is an error and no process."""
    pid = tmp_path / "pid"
    with pytest.raises(DeviceError, match="was stopped"):
        run(["/bin/sh", "-c", f"echo $$ > {pid}; exec sleep 600"], timeout_s=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_interrupt_while_a_program_runs_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the program with us."""
    pid = tmp_path / "pid"
    monkeypatch.setattr(programs, "_PROGRESS_AFTER_S", 0.3)

    def interrupt(_: float) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(["/bin/sh", "-c", f"echo $$ > {pid}; exec sleep 600"], timeout_s=60, progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_progress_is_reported_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run is heard of, and its output is whole."""
    monkeypatch.setattr(programs, "_PROGRESS_AFTER_S", 0.01)
    monkeypatch.setattr(programs, "_PROGRESS_EVERY_S", 0.01)
    heard: list[float] = []
    assert run(["/bin/sh", "-c", "echo a; sleep 0.2; echo b"], timeout_s=60, progress=heard.append) == "a\nb\n"
    assert heard
    assert heard == sorted(heard)


@needs(MKFS_XFS)
@needs(MKFS_EXT4)
@pytest.mark.parametrize("filesystem", Filesystem)
def test_a_missing_program_is_known_before_it_is_needed(
    filesystem: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package is named; where it is installed there is no problem."""
    assert mkfs_problem(filesystem) is None

    def missing(program: Program) -> str:
        return locate(program, ("/nowhere",))

    monkeypatch.setattr(mkfs, "locate", missing)
    problem = mkfs_problem(filesystem)
    assert problem is not None
    assert problem.hint in ("apt-get install xfsprogs", "apt-get install e2fsprogs")
