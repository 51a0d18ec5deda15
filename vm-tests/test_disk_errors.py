"""The disk below dm-crypt fails while a volume is re-encrypted, encrypted in place or reset, and is sound again later.

EPHEMERAL lies on a device-mapper device, whose table is swapped at run time: a part of it fails every read and write,
or every write (and then every flush as well). What failed is told with the device, nothing hangs, and all ends well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from nodes import NODE_ID, config, encrypted, luksctl_journal, mounted_from, node_spec, quick, report, status
from rig.disk import Disk, Shelf
from rig.machine import Machine, Result
from rig.spec import MachineSpec
from stage import Stage

from luksctl.model.config import EPHEMERAL, META, STATE
from tests.sampling import everything, sampled

BELOW, PARTITION = "/dev/mapper/below", "data"
SETTINGS = f"volumes: {{{EPHEMERAL}: {{device: {BELOW}}}}}\n"
STATIC = "slot: 3, static: {passphrase: the static one}"
POLICY = "filesystems: {STATE: ext4, EPHEMERAL: ext4}\n"
IN_PLACE = POLICY + "inPlace: true\n"
ENCRYPTED = quick(config(encrypted(STATE, NODE_ID), encrypted(EPHEMERAL, NODE_ID, STATIC)))
PLAIN = quick(config(encrypted(STATE, NODE_ID)))
KEYS = {0: "nodeID", 3: "static"}
MOUNTED, UNIT = "/system/ephemeral", f"luksctl-reencrypt@{EPHEMERAL}.service"
SUBMITTED = "/root/config.yaml"
EXIT_NEEDS_REBOOT, EXIT_DEVICE = 7, 9
KIB_OF_HEADER, KIB_OF_KEY_AREAS = 32, 16 * 1024
TABLE = f"""
base=$(readlink -f /dev/disk/by-partlabel/{PARTITION})
size=$(blockdev --getsz $base)
from=$(($2 * 2)) to=$((($2 + $3) * 2))
[ $to -le $size ] || to=$size
(
    [ $from = 0 ] || echo 0 $from linear $base 0
    case $1 in
        dead) echo $from $((to - from)) error;;
        unwritable) echo $from $((to - from)) flakey $base $from 0 86400 1 error_writes;;
    esac
    [ $to = $size ] || echo $to $((size - to)) linear $base $to
) >/run/table
dmsetup info below >/dev/null 2>&1 || dmsetup create below --notable
dmsetup load below /run/table && dmsetup suspend --nolockfs below && dmsetup resume below && udevadm settle
"""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the disk: from `kib` on, `size_kib` are "dead" or "unwritable"."""

    kind: str
    kib: int
    size_kib: int

    def __str__(self) -> str:
        return f"{self.kind} at {self.kib} KiB"


HEADER = (0, KIB_OF_HEADER)
KEY_AREAS = (KIB_OF_HEADER, KIB_OF_KEY_AREAS - KIB_OF_HEADER)
FIRST_DATA = (KIB_OF_KEY_AREAS, 64)
SOUND = Fault("sound", 0, 0)


class Guest:
    """The guest, its disk, and what lies between them."""

    def __init__(self, machine: Callable[[MachineSpec], Machine], disk: Disk, text: str) -> None:
        files = {"/etc/luksctl/luksctl.yaml": SETTINGS, "/root/table": TABLE}
        self.disk = disk
        self.node = machine(node_spec(MachineSpec(disks=(disk,), files=files), text))
        self.node.restore()
        self.node.check("modprobe", "dm-flakey")
        # Tries in the background would use up attempts of their own; here each boot is one.
        self.node.check("systemctl", "mask", "--runtime", f"luksctl-retry@{STATE}", f"luksctl-retry@{EPHEMERAL}")
        self.stage = Stage(self.node, disk)
        self.becomes(SOUND)

    def becomes(self, fault: Fault) -> None:
        """Let the disk be as `fault` says, from now on."""
        self.node.check("sh", "/root/table", fault.kind, str(fault.kib), str(fault.size_kib))
        self.node.check("sh", "-c", "echo 3 >/proc/sys/vm/drop_caches")

    def boots(self) -> Result:
        """Let go of everything, which nothing hinders, and start what a boot starts."""
        with self.stage.let_go():
            self.node.check("blockdev", "--flushbufs", BELOW)
        return self.stage.boot()

    def boots_well(self) -> None:
        """Boot a sound disk: both volumes are mounted."""
        assert self.boots().status == 0, self.node.journal("-n", "60")
        self.stage.assert_both_mounted()

    @property
    def path(self) -> str:
        """Return the name of the device in messages."""
        return self.node.check("readlink", "-f", BELOW).strip()

    def told(self, announced: tuple[str, ...]) -> dict[str, Any]:
        """Return what status says of EPHEMERAL, while META announces something of these volumes."""
        found = status(self.node)
        assert tuple(intent["volume"] for intent in found["meta"]["intents"]) == announced, luksctl_journal(self.node)
        volume: dict[str, Any] = found["volumes"][1]
        return volume

    def digest(self) -> str:
        """Return a checksum over all files, as the device has them."""
        self.node.check("sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")
        return self.node.check("sh", "-c", f"cd {MOUNTED} && md5sum data* | md5sum").split()[0]

    def fill(self, files: int) -> str:
        """Write files of 2 MiB each; return their checksum."""
        line = f"for i in $(seq {files}); do dd if=/dev/urandom of={MOUNTED}/data$i bs=1M count=2 status=none; done"
        self.node.check("sh", "-c", f"set -e; {line}; sync")
        return self.digest()

    def nothing_hangs(self) -> None:
        """Read what is mounted, and write to it: it may fail, and it ends."""
        self.node.run(
            "sh", "-c", f"cat {MOUNTED}/data* >/dev/null; dd if=/dev/zero of={MOUNTED}/new count=1 conv=fsync"
        )

    def service_fails(self) -> int:
        """Wait until the service has ended in an error; return its exit code."""
        self.node.wait_until(f'[ "$(systemctl show -P ExecMainStatus {UNIT})" -gt 0 ]', timeout_s=120)
        return int(self.node.check("systemctl", "show", "-P", "ExecMainStatus", UNIT))

    def is_encrypted(self) -> None:
        """Wait until the service has ended; nothing is announced any more, and every key opens its slot."""
        self.node.wait_for_unit(UNIT, "inactive", timeout_s=300)
        told = self.told(())
        assert {slot["slot"]: slot["kind"] for slot in told["slots"]} == KEYS
        assert (told["reencryption"], told["findings"]) == (None, [])
        self.node.check("luksctl", "check", EPHEMERAL)

    def is_plain(self) -> None:
        """Wait until the service has ended; after a boot nothing is announced any more, and no mapping is left."""
        self.node.wait_for_unit(UNIT, "inactive", timeout_s=300)
        assert self.boots().status == 0, self.node.journal("-n", "60")
        assert mounted_from(self.node, MOUNTED) == BELOW
        self.told(())
        assert report(self.node, EPHEMERAL)["state"] == "plain"

    def is_applied(self, text: str) -> None:
        """Apply a config, which leaves EPHEMERAL to the next boot."""
        self.node.write_file(SUBMITTED, text, mode=0o600)
        self.node.check("luksctl", "apply-config", "-f", SUBMITTED)


def guest_of(machine: Callable[[MachineSpec], Machine], disks: Shelf, text: str, *, size_mib: int) -> Guest:
    """Return a guest whose EPHEMERAL has that size, after its first boot."""
    layout = [(META, "1M"), (STATE, "48M"), (PARTITION, f"{size_mib}M")]
    guest = Guest(machine, disks.partitioned(layout, size_mib=size_mib + 52), text)
    assert guest.stage.boot().status == 0, guest.node.journal("-n", "60")
    return guest


# ---- a new volume key -----------------------------------------------------------------------------------------------

# Behind the hot zones of the first seconds, and nothing that the filesystem needs to be mounted.
LATE_DATA = (30 * 1024 + 512, 64)
FAILING = [Fault(kind, *place) for kind in ("dead", "unwritable") for place in (HEADER, KEY_AREAS, LATE_DATA)]
RENEWALS = [(fault, resilience) for fault in FAILING for resilience in ("checksum", "journal")]
RESETS = [
    Fault("unwritable", *KEY_AREAS),
    Fault("dead", *HEADER),
    Fault("dead", *KEY_AREAS),
    Fault("dead", *FIRST_DATA),
]


def test_a_disk_that_fails_under_an_encrypted_volume(machine: Callable[[MachineSpec], Machine], disks: Shelf) -> None:
    """It fails while a mounted volume gets a new volume key, and while it is erased: nothing is lost, or all of it."""
    guest = guest_of(machine, disks, ENCRYPTED + POLICY, size_mib=32)
    files = guest.fill(3)
    for fault, resilience in sampled(RENEWALS, 12, salt="renewal"):
        is_renewed(guest, fault, resilience, files)
    for fault in sampled(RESETS, 4, salt="reset"):
        is_erased(guest, fault)


def is_renewed(guest: Guest, fault: Fault, resilience: str, files: str) -> None:
    """Check that the disk's failure is told, that nothing hangs, and that the next boot goes on to the end."""
    print("renewed by", resilience, fault)
    words = ("--no-wait", "--max-rate", "2MiB", "--resilience", resilience)
    guest.node.check("luksctl", "reencrypt", EPHEMERAL, *words)
    guest.node.wait_for_path(f"/run/luksctl/reencrypt/{EPHEMERAL}.json")
    guest.becomes(fault)
    fails_and_says_so(guest)
    if fault == Fault("dead", *LATE_DATA):
        opens_with_a_bad_block(guest)
    guest.becomes(SOUND)
    guest.boots_well()
    assert guest.digest() == files
    guest.is_encrypted()
    assert guest.digest() == files


def fails_and_says_so(guest: Guest) -> None:
    """Check that the service ends in an error with the device, that status has it, and that nothing waits for ever."""
    code = guest.service_fails()
    assert code in (EXIT_NEEDS_REBOOT, EXIT_DEVICE)
    told = guest.told((EPHEMERAL,))
    print(code, told["findings"])
    assert guest.path in " ".join(told["findings"]), told
    assert told["exitCode"] != 0
    guest.nothing_hangs()


def opens_with_a_bad_block(guest: Guest) -> None:
    """Check that a boot mounts what has a block that cannot be read, and that the run now stops before that."""
    guest.boots_well()
    assert guest.service_fails() == EXIT_DEVICE
    assert f"{guest.path} cannot be read at byte" in guest.told((EPHEMERAL,))["reencryption"]["stoppedBy"]
    assert guest.node.run("ls", "/dev/mapper/").stdout.count("hotzone") == 0
    guest.stage.assert_both_mounted()


def is_erased(guest: Guest, fault: Fault) -> None:
    """Check that the other volume is erased all the same, and that this one is once the disk takes it."""
    print("erased,", fault)
    guest.becomes(fault)
    done = guest.node.run("luksctl", "reset", "--system-labels-to-wipe", f"{STATE},{EPHEMERAL}", "--yes")
    print(done.stderr)
    assert done.status == EXIT_DEVICE, done
    assert guest.path in done.stderr
    guest.told((EPHEMERAL,))
    guest.becomes(SOUND)
    guest.boots_well()
    guest.told(())
    assert guest.node.run("ls", f"{MOUNTED}/data1").status != 0
    guest.fill(1)


# ---- in place -------------------------------------------------------------------------------------------------------

SIZE_MIB = 80
COPY_OF_THE_HEAD = ((SIZE_MIB - 16) * 1024, 64)
PREPARING = [Fault("dead", *COPY_OF_THE_HEAD), Fault("unwritable", *COPY_OF_THE_HEAD), Fault("unwritable", *HEADER)]
PREPARING += [Fault("unwritable", *KEY_AREAS), Fault("dead", *HEADER)]
LATER = (24 * 1024, 64)
RUNNING = [Fault(kind, *place) for kind in ("dead", "unwritable") for place in (HEADER, KEY_AREAS, LATER)]
ENCRYPTING = [(False, fault) for fault in PREPARING] + [(True, fault) for fault in RUNNING]
DECRYPTING = [
    (False, Fault("dead", *HEADER)),
    (False, Fault("unwritable", *HEADER)),
    (False, Fault("dead", *FIRST_DATA)),
    (True, Fault("dead", *LATER)),
    (True, Fault("unwritable", *LATER)),
]
only_everything = pytest.mark.skipif(not everything(), reason="a sample is run on image files, FAULTS=all in a guest")


@only_everything
def test_a_disk_that_fails_while_a_volume_is_encrypted_in_place(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """Before anything is encrypted, or in the middle of it: the files are there once the disk is sound."""
    guest = guest_of(machine, disks, PLAIN + IN_PLACE, size_mib=SIZE_MIB)
    files = guest.fill(6)
    guest.is_applied(ENCRYPTED + IN_PLACE)
    is_changed_in_place(guest, disks, ENCRYPTING, files, guest.is_encrypted)


@only_everything
def test_a_disk_that_fails_while_a_volume_is_decrypted_in_place(
    machine: Callable[[MachineSpec], Machine], disks: Shelf
) -> None:
    """Before anything is decrypted, or in the middle of it: the files are there once the disk is sound."""
    guest = guest_of(machine, disks, ENCRYPTED + IN_PLACE, size_mib=SIZE_MIB)
    files = guest.fill(6)
    guest.is_applied(PLAIN + IN_PLACE)
    is_changed_in_place(guest, disks, DECRYPTING, files, guest.is_plain)


def is_changed_in_place(
    guest: Guest, disks: Shelf, faults: Sequence[tuple[bool, Fault]], files: str, is_changed: Callable[[], None]
) -> None:
    """Check that each failure, of a run (True) or of the boot that begins it, is told, and that it is gone on with."""
    with guest.stage.let_go() as disk:
        before = disks.copy(disk, "before").path
    for running, fault in faults:
        print("running" if running else "preparing", fault)
        guest.stage.show(before)
        guest.node.check("blockdev", "--flushbufs", BELOW)
        if running:
            guest.boots_well()
            guest.node.wait_for_path(f"/run/luksctl/reencrypt/{EPHEMERAL}.json")
            guest.becomes(fault)
            fails_and_says_so(guest)
        else:
            guest.becomes(fault)
            is_not_begun(guest)
        guest.becomes(SOUND)
        guest.boots_well()
        assert guest.digest() == files
        is_changed()
        assert guest.digest() == files


def is_not_begun(guest: Guest) -> None:
    """Check that the boot leaves the volume unmounted, and says which device fails."""
    assert guest.boots().status != 0
    assert mounted_from(guest.node, MOUNTED) == ""
    told = report(guest.node, EPHEMERAL)
    print(told["problem"])
    assert guest.path in told["problem"]
