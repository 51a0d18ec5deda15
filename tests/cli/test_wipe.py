"""luksctl wipe disk: what no volume uses is erased with proof; everything else is refused without a byte changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luksctl.devices.medium import is_zero
from luksctl.devices.partition import SFDISK
from luksctl.devices.programs import locate, run
from luksctl.units import MIB
from tests.cli.desk import PASSPHRASE, Desk
from tests.devices.fake_tree import needs

TABLE = """\
label: gpt
unit: sectors

1 : start=2048, size=65536, name="STATE"
2 : start=67584, size=65536, name="other"
"""


@pytest.fixture
def disk(desk: Desk) -> str:
    """Return a LUKS2 volume that is nobody's."""
    desk.image("other", 24 * MIB)
    desk.format("other", slots={0: PASSPHRASE, 7: "another"})
    return str(desk.path("other"))


def test_fast_erases_both_ends(desk: Desk, disk: str) -> None:
    """It is blank afterwards, and the record says what was read back."""
    with Path(disk).open("r+b") as target:
        target.seek(20 * MIB)
        target.write(b"data")
    answer = desk.run("wipe", "disk", disk, "--yes", "--json")
    assert answer.code == 0, answer.err
    assert is_zero(disk, 24 * MIB)
    assert b"data" in Path(disk).read_bytes()
    (record,) = answer.json["disks"]
    assert (record["complete"], record["method"], record["device"]) == (True, "fast", os.path.realpath(disk))
    assert len(record["erasedUUID"]) == 36


def test_zeroes_leaves_no_byte(desk: Desk, disk: str) -> None:
    """Also in the middle; and META knows nothing of it."""
    with Path(disk).open("r+b") as target:
        target.seek(20 * MIB)
        target.write(b"data")
    meta = desk.bytes_of("meta")
    assert desk.run("wipe", "disk", disk, "--method", "zeroes", "--yes").code == 0
    assert Path(disk).read_bytes().count(0) == 24 * MIB
    assert desk.bytes_of("meta") == meta


@needs(SFDISK)
def test_what_its_partitions_hold_goes_too(desk: Desk) -> None:
    """A header in a partition of the disk is erased by its key areas, and the table is gone at both ends."""
    path = desk.image("disk", 80 * MIB)
    run([locate(SFDISK), "--quiet", str(path)], stdin=TABLE, timeout_s=30)
    desk.image("part", 32 * MIB)
    desk.format("part", slots={0: PASSPHRASE})
    with path.open("r+b") as target:
        target.seek(MIB)
        target.write(desk.path("part").read_bytes())
    answer = desk.run("wipe", "disk", str(path), "--yes")
    assert answer.code == 0, answer.err
    assert "partitions STATE, other" in answer.out
    content = path.read_bytes()
    assert content.count(0) == len(content)


@pytest.mark.parametrize("name", ["state", "ephemeral", "meta"])
def test_a_volume_of_this_node_is_refused(desk: Desk, name: str) -> None:
    """Those are reset, by their labels; the hint says how."""
    before = desk.bytes_of(name)
    answer = desk.run("wipe", "disk", str(desk.path(name)), "--yes")
    assert answer.code == 3
    assert f"luksctl reset --system-labels-to-wipe {name.upper()}" in answer.err
    assert desk.bytes_of(name) == before


def test_all_are_looked_at_before_the_first_is_erased(desk: Desk, disk: str) -> None:
    """One that is refused stops the others, too."""
    before = desk.bytes_of("other")
    for wrong, code in (("/no/such/disk", 9), (str(desk.path("state")), 3), (str(desk.directory), 64)):
        assert desk.run("wipe", "disk", disk, wrong, "--yes").code == code
    assert desk.bytes_of("other") == before


def test_what_is_in_use_or_read_only_is_refused(desk: Desk, disk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whom it is used is said."""
    before = desk.bytes_of("other")
    monkeypatch.setattr("luksctl.devices.disks.in_use", lambda _device, _tree: "the mount of it at /mnt")
    answer = desk.run("wipe", "disk", disk, "--yes")
    assert (answer.code, "in use by the mount of it at /mnt" in answer.err) == (3, True)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    answer = desk.run("wipe", "disk", disk, "--yes")
    assert (answer.code, "is read-only" in answer.err) == (3, True)
    assert desk.bytes_of("other") == before


def test_nobody_is_asked_without_a_terminal(desk: Desk, disk: str) -> None:
    """What would be lost is named, and nothing is."""
    before = desk.bytes_of("other")
    answer = desk.run("wipe", "disk", disk)
    assert answer.code == 64
    assert f"Everything on {os.path.realpath(disk)} will be gone" in answer.err
    assert desk.bytes_of("other") == before
