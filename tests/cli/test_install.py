"""install lays out a blank disk, and another one only when it is named twice and meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luksctl.cryptsetup import blkid
from luksctl.units import MIB
from tests.cli.desk import Desk


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a blank disk of 600 MiB."""
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 600 * MIB)
    return path


def test_a_blank_disk_gets_three_partitions(desk: Desk, disk: Path) -> None:
    """The layout is shown; JSON names each partition with its UUID as the table on the disk has it."""
    answer = desk.run("install", "--json", str(disk))
    assert answer.code == 0, answer.err
    assert [part["name"] for part in answer.json["partitions"]] == ["META", "STATE", "EPHEMERAL"]
    table = blkid.partition_table(str(disk))
    assert table is not None
    assert [entry.uuid for entry in table.entries] == [part["partuuid"] for part in answer.json["partitions"]]
    assert answer.json["recorded"] is False
    assert "first boot from it records" in answer.err


def test_the_layout_is_a_table_for_people(desk: Desk, disk: Path) -> None:
    """Number, name, offset and size; and what to type next."""
    answer = desk.run("install", str(disk))
    assert "2          STATE      2097152    100 MiB" in answer.out
    assert "luksctl enable" in answer.out


def test_a_disk_with_anything_on_it_is_refused(desk: Desk, disk: Path) -> None:
    """Code 3, the content is named, and the hint names --erase; not a byte changed."""
    desk.run("install", str(disk))
    before = disk.read_bytes()
    answer = desk.run("install", str(disk))
    assert answer.code == 3
    assert "META, STATE, EPHEMERAL" in answer.err
    assert f"--erase {disk}" in answer.err
    assert disk.read_bytes() == before


def test_erasing_has_to_be_meant(desk: Desk, disk: Path) -> None:
    """--erase alone is not enough where nobody can be asked; with --yes the disk gets new partitions."""
    first = desk.run("install", "--json", str(disk)).json
    before = disk.read_bytes()
    refused = desk.run("install", str(disk), "--erase", str(disk))
    assert refused.code == 64
    assert disk.read_bytes() == before
    second = desk.run("install", "--json", str(disk), "--erase", str(disk), "--yes")
    assert second.code == 0
    assert "erasing" in second.err
    assert second.json["diskUUID"] != first["diskUUID"]


def test_erasing_names_the_same_disk(desk: Desk, disk: Path) -> None:
    """--erase of another disk is a usage error."""
    answer = desk.run("install", str(disk), "--erase", "/dev/null", "--yes")
    assert answer.code == 64
