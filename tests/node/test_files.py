"""Small files are replaced whole, also by several processes at once."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Thread

from luksctl.node.files import replace_file, replace_link


def test_the_new_file_has_its_mode_and_nothing_of_a_leftover(tmp_path: Path) -> None:
    """A leftover of a cut is written over, however long it was, and whatever its mode."""
    path = tmp_path / "config.yaml"
    leftover = tmp_path / "config.yaml.new"
    leftover.write_bytes(b"x" * 10000)
    leftover.chmod(0o644)
    replace_file(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not leftover.exists()


def test_a_writer_waits_for_the_other_and_does_not_write_into_what_that_one_made(tmp_path: Path) -> None:
    """The file that was waited for is in its place by then; writing into it would tear it for its readers."""
    path, temporary = tmp_path / "config.yaml", tmp_path / "config.yaml.new"
    with temporary.open("wb") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        second = Thread(target=replace_file, args=(str(path), b"the second"))
        second.start()
        other.write(b"the first")
        other.flush()
        os.rename(temporary, path)
        first = os.open(path, os.O_RDONLY)
    second.join()
    assert os.read(first, 100) == b"the first"
    os.close(first)
    assert path.read_bytes() == b"the second"


def test_many_writers_leave_one_whole_file(tmp_path: Path) -> None:
    """Each reader sees a file that one writer wrote."""
    path = str(tmp_path / "report.json")
    whole = {bytes([number]) * (1 + 4096 * number) for number in range(4)}
    replace_file(path, next(iter(whole)))

    def write(content: bytes) -> None:
        for _ in range(10):
            replace_file(path, content)

    writers = [Thread(target=write, args=(content,)) for content in whole]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert Path(path).read_bytes() in whole
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_link_is_replaced(tmp_path: Path) -> None:
    """The old link goes, and so does what an earlier process of the same number left."""
    link = tmp_path / "STATE"
    link.symlink_to("/dev/mapper/old")
    (tmp_path / f"STATE.{os.getpid()}.new").symlink_to("/dev/mapper/torn")
    replace_link(str(link), "/dev/mapper/new")
    assert os.readlink(link) == "/dev/mapper/new"
    assert os.listdir(tmp_path) == ["STATE"]
