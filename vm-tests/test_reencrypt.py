"""Mounted volumes get new volume keys under write load: data and keys are as before, the old keys are of no use.

Keys of every kind open them. The power goes in the middle, and the next boot goes on by itself. `make faults` also
writes a whole run down, and cuts it at the end of each step and at twenty moments of its re-encryption; and it cuts the
power of a node with a GiB in each volume twenty times on its way.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS
from first_boots import DRIVER, StepEnd, drive
from kms_at_host import Kms
from nodes import NODE_ID, encrypted, mounted_from, node_spec, status
from progress import announced, done_bytes, wait_for, wait_until_ended
from rig.disk import MIB, Disk, Shelf
from rig.machine import Machine
from rig.spec import MachineSpec
from rig.writelog import read_log, replay
from stage import Stage

from luksctl.cryptsetup.device import Device
from luksctl.model.config import EPHEMERAL, META, STATE
from luksctl.secret import Secret
from tests.sampling import everything

PASSPHRASE = "the static one"
STATIC, TPM = f"slot: 3, static: {{passphrase: {PASSPHRASE}}}", "slot: 5, tpm: {}"
KEYS = {
    STATE: {0: "nodeID", 3: "static", 7: "kms"},
    EPHEMERAL: {0: "nodeID", 3: "static", 5: "tpm", 7: "kms"},
}
KEY, RECOVERY = "/root/recovery-key", 30
PATHS = {STATE: "/system/state", EPHEMERAL: "/system/ephemeral"}
WRITE_LOAD = "while :; do for p in {}; do dd if=/dev/urandom of=$p bs=64k count=1 conv=fsync; done; sleep 1; done"
LOAD = WRITE_LOAD.format(" ".join(f"{path}/load" for path in PATHS.values()))
# Hot zones are no larger than what goes through in a second, and neither ends before the power goes.
RATES = {STATE: "2MiB", EPHEMERAL: "4MiB"}
CUT_AT_BYTES = 12 * MIB
HEADER_BYTES = 16 * MIB
# Where the magic number of each filesystem stands.
MAGIC = {STATE: (0, b"XFSB"), EPHEMERAL: (1080, b"\x53\xef")}
CUTS = 20
# The large node: what each volume has, how much of it is files, and how much has the new key when power goes.
LARGE_MIB, LARGE_DATA_MIB, SMALL_DATA_MIB = 1024, 128, 8


def all_kinds(kms: Kms) -> str:
    """Return a config with keys of every kind that a config can have; one filesystem of each kind."""
    state = encrypted(STATE, NODE_ID, STATIC, kms.key(7))
    ephemeral = encrypted(EPHEMERAL, NODE_ID, STATIC, TPM, kms.key(7))
    return state + ephemeral + kms.policy + "filesystems: {STATE: xfs, EPHEMERAL: ext4}\n"


def begins_with(machine: Callable[[MachineSpec], Machine], disk: Disk, kms: Kms) -> Machine:
    """Switch a node on that makes its volumes, with every key in place when this returns."""
    kms.start()
    node = machine(node_spec(MachineSpec(disks=(disk,), tpm=True, network=True, files=kms.files), all_kinds(kms)))
    assert node.start() == "running"
    for volume in PATHS:
        node.wait_until(f"! systemctl is-active luksctl-network@{volume}.service", timeout_s=180)
    return node


def test_mounted_volumes_get_new_keys_though_the_power_goes(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, kms: Kms, tmp_path: Path
) -> None:
    """Both at once, under write load; cut in the middle, they are mounted at once, and the rest is done by itself."""
    disk = disks.partitioned([(META, "1M"), (STATE, "48M"), (EPHEMERAL, "")], size_mib=105)
    node = begins_with(machine, disk, kms)
    digests = makes_data(node, SMALL_DATA_MIB)
    old = {volume: old_header(disk, volume, tmp_path) for volume in PATHS}
    begins_under_load(node, RATES)
    wait_for(lambda: done_bytes(disk, EPHEMERAL) >= CUT_AT_BYTES)
    node.wait_until(f"grep '\"bytesPerSecond\": [1-9]' /run/luksctl/reencrypt/{EPHEMERAL}.json")
    node.cut_power()
    assert announced(disk) == {STATE, EPHEMERAL}
    comes_back(node, digests)
    ends_well(node, disk, digests)
    assert_old_keys_are_useless(disk, old)


@pytest.mark.skipif(not everything(), reason="FAULTS=all cuts one run twenty times")
@pytest.mark.timeout(7200)
def test_a_gigabyte_in_each_is_cut_twenty_times(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, kms: Kms, tmp_path: Path
) -> None:
    """At moments that SEED chooses, by how much is done: at each boot it is mounted with its data, and goes on."""
    disk = disks.partitioned([(META, "1M"), (STATE, f"{LARGE_MIB}M"), (EPHEMERAL, "")], size_mib=2 * LARGE_MIB + 8)
    node = begins_with(machine, disk, kms)
    digests = makes_data(node, LARGE_DATA_MIB)
    old = {volume: old_header(disk, volume, tmp_path) for volume in PATHS}
    begins_under_load(node, dict.fromkeys(PATHS))
    for moment in moments(disk.partition(EPHEMERAL).size_bytes - HEADER_BYTES):
        wait_for(lambda moment=moment: done_bytes(disk, EPHEMERAL) >= moment)  # type: ignore[misc]
        node.cut_power()
        print(f"cut at {done_bytes(disk, EPHEMERAL) // MIB} MiB; announced: {sorted(announced(disk))}", flush=True)
        assert EPHEMERAL in announced(disk)
        comes_back(node, digests)
    ends_well(node, disk, digests, timeout_s=1800)
    assert_old_keys_are_useless(disk, old)


@pytest.mark.skipif(not everything(), reason="FAULTS=all cuts one run some forty times")
@pytest.mark.timeout(7200)
def test_a_run_that_is_cut_anywhere_is_gone_on_with(
    machine: Callable[[MachineSpec], Machine], disks: Shelf, kms: Kms, tmp_path: Path
) -> None:
    """After each step, and at twenty moments of the re-encryption: mounted at once with the same data, ended by itself.

    Some steps are not followed by a boot, which takes seconds, but by what a boot does.
    """
    logged = disks.talos("logged", 192, log_writes=True)
    node = begins_with(machine, logged, kms)
    digests = makes_data(node, SMALL_DATA_MIB)
    node.write_file("/root/driver.py", DRIVER)
    load = node.begin("sh", "-c", LOAD, timeout_s=600)
    steps: list[StepEnd] = []
    drive(node, logged, f"reencrypt={EPHEMERAL}:{KEY}", steps)
    node.check("pkill", "-f", "conv=fsync")
    node.finish(load)
    assert digests_of(node) == digests
    assert_all_is_as_before(node)
    node.cut_power()
    log = read_log(logged.log_path)
    disk = Disk(replay(logged.base_path, log, len(log.entries), disks.directory / "disk.img"))
    node.spec = replace(node.spec, disks=(disk,))
    assert node.start() == "running"
    stage = Stage(node, disk)
    for cut in cuts_of(steps):
        stage.show(replay(logged.base_path, log, cut, tmp_path / "torn.img"))
        assert stage.boot().status == 0, node.journal("-n", "60")
        stage.assert_both_mounted()
        assert digests_of(node) == digests
        ends_well(node, disk, digests)


def ends_well(node: Machine, disk: Disk, digests: dict[str, str], timeout_s: float = 300) -> None:
    """Wait until nothing is announced any more: the data is equal, and every key is where it was."""
    wait_until_ended(disk, timeout_s)
    assert digests_of(node) == digests
    assert_all_is_as_before(node)


def comes_back(node: Machine, digests: dict[str, str]) -> None:
    """Switch the power on again: both are mounted with their data, and are written to from then on."""
    node.start()
    for volume, path in PATHS.items():
        assert mounted_from(node, path) == f"/dev/mapper/luks2-{volume}", node.journal("-n", "60")
    node.begin("sh", "-c", LOAD, timeout_s=3600)
    assert digests_of(node) == digests


def moments(size_bytes: int) -> list[int]:
    """Return how much is done when power goes, by SEED, each time."""
    chosen = random.Random(os.environ.get("SEED", "0"))  # noqa: S311  # moments of cuts are no secret
    return sorted(chosen.randrange(size_bytes * 19 // 20) for _ in range(CUTS))


def cuts_of(steps: list[StepEnd]) -> list[int]:
    """Return the ends of all steps, and twenty moments spread over what re-encrypts the data."""
    (number,) = (number for number, step in enumerate(steps) if step.name == "RunReencryption")
    before, after = steps[number - 1].entries, steps[number].entries
    inside = {before + (after - before) * part // (CUTS + 1) for part in range(1, CUTS + 1)}
    return sorted(inside | {step.entries for step in steps})


# ---- the data and the keys ------------------------------------------------------------------------------------------


def makes_data(node: Machine, size_mib: int) -> dict[str, str]:
    """Fill both volumes, and add a recovery key to EPHEMERAL; return the digests of the data."""
    for path in PATHS.values():
        node.check("sh", "-c", f"dd if=/dev/urandom of={path}/data bs=1M count={size_mib} status=none", timeout_s=600)
    node.check("sh", "-c", f"umask 077; luksctl recovery add {EPHEMERAL} >{KEY} && sync")
    return digests_of(node)


def digests_of(node: Machine) -> dict[str, str]:
    """Return the digests of what was written into both volumes, read from the medium."""
    files = " ".join(f"{path}/data" for path in PATHS.values())
    read = node.check("sh", "-c", f"echo 3 >/proc/sys/vm/drop_caches; sha256sum {files}", timeout_s=600)
    lines = read.splitlines()
    return dict(zip(PATHS, (line.split()[0] for line in lines), strict=True))


def assert_all_is_as_before(node: Machine) -> None:
    """Check that every key opens its volume at its configured number, and the recovery key wherever it is now."""
    found = status(node)
    assert found["exitCode"] == 0, found
    for volume in found["volumes"]:
        kinds = {slot["slot"]: slot["kind"] for slot in volume["slots"]}
        assert {number: kind for number, kind in kinds.items() if kind != "recovery"} == KEYS[volume["volume"]]
        assert list(kinds.values()).count("recovery") == (volume["volume"] == EPHEMERAL)
        assert volume["reencryption"] is None
    node.check("luksctl", "check")


def assert_old_keys_are_useless(disk: Disk, old: dict[str, Path]) -> None:
    """Check that no volume key of before opens a filesystem."""
    for volume, header in old.items():
        assert not opens_the_filesystem(disk, volume, header)


def old_header(disk: Disk, volume: str, directory: Path) -> Path:
    """Keep the header as it is now; it opens the filesystem, which shows that the look at that is a true one."""
    header = directory / f"{volume}.header"
    header.write_bytes(disk.read(disk.partition(volume).offset_bytes, HEADER_BYTES))
    assert opens_the_filesystem(disk, volume, header)
    return header


def opens_the_filesystem(disk: Disk, volume: str, header: Path) -> bool:
    """Tell whether the volume key that the static passphrase opens in `header` shows a filesystem on the disk."""
    with (
        Secret.take(PASSPHRASE.encode()) as key,
        Device.open(str(header)) as device,
        device.volume_key(key) as volume_key,
        volume_key.view() as view,
    ):
        sector_bytes = device.header.metadata()["segments"]["0"]["sector_size"]
        data = disk.read(disk.partition(volume).offset_bytes + HEADER_BYTES, 4096)
        plain = b"".join(_decrypted(bytes(view), data, sector_bytes))
    place, magic = MAGIC[volume]
    return plain[place : place + len(magic)] == magic


def _decrypted(key: bytes, data: bytes, sector_bytes: int) -> Iterator[bytes]:
    """Yield the sectors of `data`, the first of a volume, by aes-xts-plain64."""
    for at in range(0, len(data), sector_bytes):
        worker = Cipher(AES(key), XTS(struct.pack("<QQ", at // 512, 0))).decryptor()
        yield worker.update(data[at : at + sector_bytes]) + worker.finalize()


# ---- how far it is --------------------------------------------------------------------------------------------------


def begins_under_load(node: Machine, rates: Mapping[str, str | None]) -> None:
    """Begin both under write load, no faster than `rates`."""
    node.begin("sh", "-c", LOAD, timeout_s=3600)
    given = {EPHEMERAL: f"--key-fd {RECOVERY}:3 3<{KEY}"}
    begun = []
    for volume, rate in rates.items():
        words = ["--no-wait", *(() if rate is None else ("--max-rate", rate)), given.get(volume, "")]
        begun.append(node.begin("sh", "-c", f"exec luksctl reencrypt {volume} {' '.join(words)}"))
    for each in begun:
        result = each.wait()
        assert result.status == 0, result
