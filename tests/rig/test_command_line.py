"""From a machine's description to QEMU's arguments and the initramfs' archive."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rig import cpio
from rig.cpio import GuestFile, Link
from rig.disk import BadSector, Disk
from rig.firmware import CODE, SecureBoot
from rig.image import Image, apt_sources, load_order
from rig.spec import MachineSpec, Places, arguments, block_nodes, kernel_line, overlay_files, unit

IMAGE = Image(Path("/image"), "key")
PLACES = Places(Path("/run"))
DISK = Disk(Path("/disks/a.img"), "a")


def argv_of(spec: MachineSpec, accel: str = "tcg") -> list[str]:
    """Return QEMU's arguments for a spec, without a tree."""
    return arguments(spec, IMAGE, None, PLACES, accel)


def after(argv: list[str], option: str) -> list[str]:
    """Return what follows each occurrence of an option."""
    return [value for name, value in pairwise(argv) if name == option]


def test_guest_has_one_emulated_processor_unless_told_otherwise() -> None:
    """Two emulated processors hang now and then, so there is one, and emulation is the default."""
    argv = argv_of(MachineSpec())
    assert after(argv, "-smp") == ["1"]
    assert after(argv, "-accel")[0].startswith("tcg")
    assert after(argv_of(MachineSpec(), "kvm"), "-accel") == ["kvm"]


def test_machine_without_uuid_gives_none() -> None:
    """uuid=None leaves the argument out, so that the guest sees no UUID at all."""
    assert "-uuid" not in argv_of(MachineSpec(uuid=None))
    assert after(argv_of(MachineSpec(uuid="11112222-0000-4000-8000-000000000001")), "-uuid") == [
        "11112222-0000-4000-8000-000000000001"
    ]


def test_credentials_travel_as_smbios_strings_without_a_comma() -> None:
    """A value with commas and zero bytes is base64, since QEMU splits its options at commas."""
    spec = MachineSpec(credentials={"luksctl.machineconfig": b"a,b\0c"})
    (smbios,) = after(argv_of(spec), "-smbios")
    head = "type=11,value=io.systemd.credential.binary:luksctl.machineconfig="
    assert smbios.startswith(head)
    text = smbios.removeprefix(head)
    assert "," not in text
    assert base64.b64decode(text) == b"a,b\0c"


def test_kernel_arguments_of_the_spec_come_last() -> None:
    """What a story adds to the kernel's command line can override what the rig says."""
    (line,) = after(argv_of(MachineSpec(cmdline=("luksctl.config=/x", "loglevel=7"))), "-append")
    assert line.endswith("luksctl.config=/x loglevel=7")
    assert "console=ttyS0" in line


def test_tpm_and_network_are_absent_unless_asked_for() -> None:
    """A machine has what its spec says and nothing more."""
    plain = " ".join(argv_of(MachineSpec()))
    assert "tpm" not in plain
    assert "netdev" not in plain
    full = " ".join(argv_of(MachineSpec(tpm=True, network=True)))
    assert "tpm-crb" in full
    assert "virtio-net-pci" in full


def test_a_machine_with_secure_boot_is_given_one_signed_file() -> None:
    """Kernel, initramfs and arguments are in it; the firmware's code is read-only, its variables are the guest's."""
    argv = argv_of(MachineSpec(secure_boot=SecureBoot(), cmdline=("quiet",)))
    assert after(argv, "-kernel") == [str(PLACES.unified)]
    assert not {"-initrd", "-append"} & set(argv)
    assert after(argv, "-machine") == ["q35,smm=on"]
    code, variables = after(argv, "-drive")[:2]
    assert f"readonly=on,file={CODE}" in code
    assert f"file={PLACES.variables}" in variables
    assert "readonly" not in variables
    assert kernel_line(MachineSpec(cmdline=("quiet",))).endswith(" quiet")


def layers(disk: Disk) -> list[dict[str, Any]]:
    """Return a disk's block nodes."""
    return [dict(node) for node in block_nodes(disk, 3)]


@pytest.mark.parametrize(
    ("disk", "drivers"),
    [
        (DISK, ["file", "raw"]),
        (replace(DISK, log_writes=True), ["file", "blklogwrites", "raw"]),
        (replace(DISK, bad_sectors=(BadSector(8, "read"),)), ["file", "blkdebug", "raw"]),
        (
            replace(DISK, log_writes=True, bad_sectors=(BadSector(8, "read"),)),
            ["file", "blkdebug", "blklogwrites", "raw"],
        ),
    ],
)
def test_block_nodes_are_stacked_with_the_file_below_and_the_guest_above(disk: Disk, drivers: list[str]) -> None:
    """Each layer stands on the one before it, and the topmost has the name that the device uses."""
    nodes = layers(disk)
    assert [node["driver"] for node in nodes] == drivers
    for lower, upper in pairwise(nodes):
        assert lower["node-name"] in (upper.get("file"), upper.get("image"))
    assert nodes[-1]["node-name"] == "disk3"


def test_flushes_reach_the_write_log() -> None:
    """Only the file at the bottom drops flushes: a filter that did would never log one."""
    for node in layers(replace(DISK, log_writes=True))[1:]:
        assert "cache" not in node


def test_disk_arguments_are_json_that_names_the_serial() -> None:
    """A disk given at power-on has the same device as one that is plugged in later."""
    devices = [text for text in after(argv_of(MachineSpec(disks=(DISK,))), "-device") if text.startswith("{")]
    assert [json.loads(text)["serial"] for text in devices] == ["a"]


def test_enabled_unit_is_a_file_and_a_link() -> None:
    """A unit that a target wants is linked from that target's directory."""
    files = unit("x.service", "[Service]\n", "multi-user.target")
    assert files["/etc/systemd/system/multi-user.target.wants/x.service"] == Link("../x.service")
    entries = overlay_files(MachineSpec(files=files | {"/etc/raw": b"\0", "/usr/bin/tool": GuestFile(b"#!", 0o755)}))
    assert entries["overlay/etc/raw"] == GuestFile(b"\0")
    assert entries["overlay/usr/bin/tool"] == GuestFile(b"#!", 0o755)
    assert entries["overlay/etc/systemd/system/x.service"] == GuestFile(b"[Service]\n")


def parsed(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive back: path → mode and content."""
    found: dict[str, tuple[int, bytes]] = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        mode, size_bytes, name_bytes = fields[1], fields[6], fields[11]
        name = archive[position + 110 : position + 110 + name_bytes - 1].decode()
        position += -(-(110 + name_bytes) // 4) * 4
        content = archive[position : position + size_bytes]
        position += -(-size_bytes // 4) * 4
        if name == cpio.TRAILER:
            return found
        found[name] = (mode, content)


def test_archive_lists_directories_before_their_files() -> None:
    """The kernel makes no directories by itself, so each is in the archive, once and before what is in it."""
    archive = cpio.archive({"/a/b/c": GuestFile(b"12345", 0o640), "a/b/d": Link("c"), "e": GuestFile(b"")})
    read = parsed(archive)
    assert list(read) == ["a", "a/b", "a/b/c", "a/b/d", "e"]
    assert read["a/b"] == (0o040755, b"")
    assert read["a/b/c"] == (0o100640, b"12345")
    assert read["a/b/d"] == (0o120777, b"c")
    assert len(archive) % 512 == 0


def test_modules_load_after_what_they_need() -> None:
    """Dependencies come first, each once, and what is built into the kernel is left out."""
    text = "k/a.ko: k/b-x.ko k/c.ko\nk/b-x.ko: k/c.ko\nk/c.ko:\nk/d.ko.xz:\n"
    assert load_order(text, ("a", "built_in", "d", "b_x")) == ["k/c.ko", "k/b-x.ko", "k/a.ko", "k/d.ko.xz"]


def test_only_the_releases_own_package_sources_are_used(tmp_path: Path) -> None:
    """Third-party suites, and files that are switched off, never reach the guest."""
    directory = tmp_path / "sources.list.d"
    directory.mkdir()
    (tmp_path / "sources.list").write_text("deb [signed-by=/k] http://mirror.invalid/debian bookworm main\n")
    (directory / "debian.sources").write_text("Types: deb\nSuites: bookworm bookworm-updates\n")
    (directory / "other.list").write_text("deb http://mirror.invalid/x cloud-bookworm main\n")
    (directory / "off.sources.disabled").write_text("Suites: bookworm\n")
    (directory / "empty.list").write_text("# nothing\n")
    assert apt_sources(tmp_path, "bookworm") == [tmp_path / "sources.list", directory / "debian.sources"]
