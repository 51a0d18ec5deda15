"""What `make demo` shows: a blank disk becomes two encrypted volumes; a file outlives a reboot, and the disk hides it.

Everything that is said is checked; the program ends with 1, and says why, when anything was not as told.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig import host
from rig.disk import MIB, Disk, Shelf
from rig.errors import RigError
from rig.image import image
from rig.machine import Machine, Result
from rig.spec import MachineSpec
from rig.tree import tree

CONFIG = host.CHECKOUT / "examples" / "machine.yaml"
CONFIG_IN_GUEST = "/etc/luksctl/machine.yaml"
DEVICE = "/dev/disk/by-id/virtio-demo"
DISK_MIB = 512
DIARY = "/system/ephemeral/diary.txt"
LINES = 20_000
MOUNTS = ("findmnt", "-o", "TARGET,SOURCE,FSTYPE,OPTIONS", "-t", "xfs,ext4")
STEPS = "/run/demo-steps"
# Runs luksctl enable while what the boot hook tells the journal goes to a file, which ends with a line of its own.
ENABLE = f"""
journalctl --follow --no-tail --boot --output=cat --identifier=luksctl-boot >{STEPS} & follower=$!
luksctl enable
status=$?
sleep 1; kill $follower; echo end >>{STEPS}
exit $status
"""
TICK_S = 5.0
LOOK_S = 2.0
ENABLE_S = 300.0


class NotAsToldError(Exception):
    """Say what of the demo was not as it was told."""


def expect(condition: object, otherwise: str) -> None:
    """Raise NotAsToldError unless the condition holds."""
    if not condition:
        raise NotAsToldError(otherwise)


# ---- telling ---------------------------------------------------------------------------------------------------------


def tell(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def chapter(title: str) -> None:
    """Begin a part of the story."""
    tell(f"\n==> {title}")


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what is being done, again every few seconds, and how long it took."""
    started, done = time.monotonic(), threading.Event()

    def tick() -> None:
        while not done.wait(TICK_S):
            tell(f"    … {what}, {time.monotonic() - started:.0f} s so far")

    tell(f"    {what} …")
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    tell(f"    … done after {time.monotonic() - started:.0f} s")


def indented(text: str) -> None:
    """Print what a command said."""
    for line in text.splitlines():
        tell(f"    {line}")


def typed(node: Machine, *words: str, ends_with: int = 0) -> None:
    """Run a command in the guest as if typed there, show what it says, and check how it ends."""
    tell(f"  # {' '.join(words)}")
    shown(node.run(*words), ends_with)


def shown(result: Result, ends_with: int = 0) -> None:
    """Show what a command said, and check how it ended."""
    indented(result.stdout)
    indented(result.stderr)
    expect(result.status == ends_with, f"{result.argv[0]} ended with {result.status} instead of {ends_with}")


def follow(node: Machine, steps: str) -> None:
    """Show the lines of a growing file in the guest until one says that it is complete."""
    told, end = 0, time.monotonic() + ENABLE_S * host.patience()
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        lines = node.read_file(steps).decode().splitlines()
        for line in lines[told:]:
            if line == "end":
                return
            tell(f"    {line}")
        told = len(lines)


# ---- the story -------------------------------------------------------------------------------------------------------


def prepare() -> None:
    """Have everything at hand that a machine is started from."""
    chapter("What the machine is made of: Debian's packages and kernel, and luksctl from this directory")
    host.check_can_run()
    with working("looking for the guest image (built the first time, in about a minute)"):
        image()
        tree()


def install(node: Machine) -> None:
    """Lay out the blank disk, and say what would be done to it."""
    chapter(f"A machine with a blank disk of {DISK_MIB} MiB; its processor is emulated, so everything takes its time")
    with working("booting"):
        node.start()
    typed(node, "luksctl", "install", DEVICE)

    chapter(f"The config: {CONFIG.relative_to(host.CHECKOUT)}, here as {CONFIG_IN_GUEST}")
    typed(node, "luksctl", "validate", CONFIG_IN_GUEST)

    chapter("What is going to be done (8 means: there is something to do)")
    typed(node, "luksctl", "plan", ends_with=8)


def enable(node: Machine) -> None:
    """Have systemd open and mount both volumes, which formats them the first time."""
    chapter("From now on at every boot, and now for the first time")
    tell("  # luksctl enable")
    command = node.begin(ENABLE, timeout_s=ENABLE_S)
    node.wait_for_path(STEPS)
    follow(node, STEPS)
    shown(command.wait())
    typed(node, *MOUNTS)


def write_diary(node: Machine) -> tuple[str, bytes]:
    """Write a file of many lines onto EPHEMERAL; return the words that all of its lines have, and its content."""
    words = f"remembers {secrets.token_hex(16)} and nobody else does"
    lines = [f"line {number} {words}\n" for number in range(1, LINES + 1)]
    content = "".join(lines).encode()
    chapter(f"A file on EPHEMERAL: {DIARY}, {LINES:,} lines, {len(content) / MIB:.1f} MiB")
    node.write_file(DIARY, content)
    typed(node, "head", "-n", "2", DIARY)
    return words, content


def reboot(node: Machine, content: bytes) -> None:
    """Reboot, and look whether the file is still there."""
    chapter("Reboot: both volumes open by themselves")
    with working("rebooting"):
        state = node.reboot()
    expect(state == "running", f"systemd says {state}")
    typed(node, "journalctl", "--boot", "--no-pager", "--output=cat", "--identifier=luksctl-boot")
    typed(node, "head", "-n", "2", DIARY)
    expect(node.read_file(DIARY) == content, f"{DIARY} is not what was written")
    tell(f"    every line of {DIARY} is as it was written")
    typed(node, "luksctl", "status")


def search(disk: Disk, words: str) -> None:
    """Look for the file's words on the raw disk, from outside, as a thief would."""
    chapter(f"The machine is off; its disk, byte by byte, all {DISK_MIB} MiB of it")
    size = disk.size_bytes
    with working(f"searching {size:,} bytes"):
        label = disk.contains("EPHEMERAL".encode("utf-16-le"))
        header = disk.contains(b"LUKS\xba\xbe")
        found = disk.contains(words.encode())
    written = disk.path.stat().st_blocks * 512
    tell(f"    searched {size:,} bytes, of which {written:,} have ever been written (the others are zeros)")
    expect(label and header, "not even the partition's name and the LUKS2 header were found: the search is blind")
    tell("    found: the name of the partition EPHEMERAL, and the LUKS2 header, as they should be")
    expect(not found, "words of the file are on the disk in clear")
    tell(f"    found of the {LINES:,} lines of the file: none")


def story(directory: Path) -> None:
    """Tell it from beginning to end."""
    prepare()
    disk = Shelf(directory).blank("demo", DISK_MIB)
    files = {CONFIG_IN_GUEST: CONFIG.read_bytes()}
    with Machine(MachineSpec(disks=(disk,), files=files, root_upper="disk"), "demo") as node:
        install(node)
        enable(node)
        words, content = write_diary(node)
        reboot(node, content)
        with working("powering off"):
            node.poweroff()
    search(disk, words)


def main() -> int:
    """Tell the story; return 0 when everything was as told."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="luksctl-demo-") as directory:
        try:
            story(Path(directory))
        except (NotAsToldError, RigError, AssertionError) as error:
            tell(f"\nluksctl demo: FAILED: {error}")
            return 1
    took_s = time.monotonic() - started
    tell(
        f"\nluksctl demo: the file outlived the reboot, and the raw disk holds none of its {LINES:,} lines"
        f" ({DISK_MIB} MiB searched; {took_s:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
