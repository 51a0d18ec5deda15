"""What fstab and crypttab say, as their manual pages spell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from luksctl.devices.tables import TableLine, read_crypttab, read_fstab


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """Return a /dev with one disk that udev linked by its UUID and by a label with a blank."""
    path = tmp_path / "dev"
    for name in ("by-uuid", "by-label"):
        (path / "disk" / name).mkdir(parents=True)
    (path / "sda1").touch()
    (path / "disk/by-uuid/1234-ABCD").symlink_to("../../sda1")
    (path / "disk/by-label/two words").symlink_to("../../sda1")
    return path


def test_entries_of_fstab(tmp_path: Path, dev: Path) -> None:
    """Comments and short lines are none; blanks are octal, values may be quoted; noauto waits for somebody."""
    table = tmp_path / "fstab"
    table.write_text(
        f"# /dev/sda1 / ext4\n\n{dev}/sda1 / ext4\n"
        'UUID="1234-ABCD"\t/srv/two\\040words xfs defaults,noauto 0 2\n'
        "LABEL=two\\040words /srv xfs nofail\nPARTLABEL=none none swap\nalone\n",
        encoding="utf-8",
    )
    node = str(dev / "sda1")
    assert read_fstab(str(table), str(dev)) == (
        TableLine(str(table), 3, node, "/", node),
        TableLine(str(table), 4, "UUID=1234-ABCD", "/srv/two words", node, automatic=False),
        TableLine(str(table), 5, "LABEL=two words", "/srv", node),
        TableLine(str(table), 6, "PARTLABEL=none", "none"),
    )


def test_entries_of_crypttab(tmp_path: Path, dev: Path) -> None:
    """The name comes first there, and the options are the fourth field too."""
    table = tmp_path / "crypttab"
    table.write_text("data UUID=1234-ABCD none luks\nkept /dev/none /etc/key luks,noauto\n", encoding="utf-8")
    assert read_crypttab(str(table), str(dev)) == (
        TableLine(str(table), 1, "UUID=1234-ABCD", "data", str(dev / "sda1")),
        TableLine(str(table), 2, "/dev/none", "kept", None, automatic=False),
    )


def test_no_table_has_no_entries(tmp_path: Path) -> None:
    """Neither has to be there; one that cannot be read is an error."""
    assert read_fstab(str(tmp_path / "fstab")) == ()
    with pytest.raises(IsADirectoryError):
        read_crypttab(str(tmp_path))


def test_bytes_that_are_no_text_are_read(tmp_path: Path) -> None:
    """A mount point may have any name."""
    table = tmp_path / "fstab"
    table.write_bytes(b"/dev/sdb1 /srv/\xff ext4\n")
    assert read_fstab(str(table))[0].target == "/srv/\udcff"
