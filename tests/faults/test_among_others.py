"""Commands among others: the stock tool at any point of one, two at once, and a header that changes under a restore."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.errors import Busy, CryptsetupError, LuksctlError, Refused
from luksctl.model.config import CHEAPEST_KDF, STATE, Settings, Timeouts
from luksctl.node import header_restore
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from tests.faults import recoveries, restores
from tests.faults.kills import points, renew
from tests.faults.operations import OPERATIONS, ROTATED
from tests.faults.running import Running
from tests.faults.sealings import ONE, SealingNode
from tests.reconcile import images
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.rotations import OTHER, boot
from tests.reconcile.stage import CRYPTSETUP, header_of, stock, stock_opens
from tests.sampling import everything, sampled

BY_HAND = b"added by hand"
CHEAP = ("--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1")


def _boot_rotated(directory: Path) -> None:
    with suppress(AssertionError):  # a spare may be blocked by the slot that was added by hand
        Running(directory).boot()


BOOTS: dict[str, Callable[[Path], object]] = {
    "recovery add": lambda directory: list(boot(Node(directory), recoveries.KEYS)),
    "recovery remove": lambda directory: list(boot(Node(directory), recoveries.KEYS)),
    "recovery key replaced": lambda directory: list(boot(Node(directory), recoveries.KEYS)),
    "keys rotate, static": _boot_rotated,
    "keys rotate, by a provider": lambda directory: list(boot(SealingNode(directory), ONE)),
}


def add_by_hand(directory: Path, slot: int) -> list[str]:
    """Return the command that adds a keyslot, and leave the key that opens now in the file it names."""
    image = directory / "state.img"
    known = [OTHER, *SealingNode(directory).made(), *(text.encode() for text in ROTATED)]
    (directory / "open.key").write_bytes(next(key for key in known if stock_opens(image, key)))
    (directory / "hand.key").write_bytes(BY_HAND)
    return [
        *("luksAddKey", str(image), str(directory / "hand.key"), "--key-slot", str(slot)),
        *("--key-file", str(directory / "open.key"), *CHEAP),
    ]


@pytest.mark.parametrize(("name", "slot"), sampled([(name, slot) for name in BOOTS for slot in (1, 29, 30)], 7))
def test_a_slot_added_with_the_stock_tool_at_any_point_stays(name: str, slot: int, tmp_path: Path) -> None:
    """Also where it takes the number that the run is about to use; once it is removed, all is as it must be."""
    directory, kept = tmp_path / "node", tmp_path / "kept"
    directory.mkdir()
    OPERATIONS[name].prepare(directory)
    shutil.copytree(directory, kept)
    free: list[bool] = []

    def look() -> None:
        free.append(header_of(Node(directory)).keyslot(slot) is None)

    with points(directory, look):
        OPERATIONS[name].perform(directory)
    for number in sampled([number for number, there in enumerate(free) if there], 4 if everything() else len(free)):
        renew(directory, kept)
        passed: list[int] = []

        def at(number: int = number, passed: list[int] = passed) -> None:
            passed.append(number)
            if len(passed) == number + 1:
                stock(*add_by_hand(directory, slot))

        with points(directory, at), suppress(LuksctlError):
            OPERATIONS[name].perform(directory)
        assert stock_opens(directory / "state.img", BY_HAND, slot), number
        BOOTS[name](directory)
        assert stock_opens(directory / "state.img", BY_HAND, slot), number
        stock("luksRemoveKey", str(directory / "state.img"), key=BY_HAND)
        OPERATIONS[name].next_boot(directory)


COMMANDS = ("header restore", *BOOTS)


@pytest.mark.parametrize("name", sampled(COMMANDS, 3, salt="boot"))
def test_while_a_command_runs_a_boot_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it may not wait it is Busy, and the command ends as if nobody had come."""
    _impatient(monkeypatch)
    OPERATIONS[name].prepare(tmp_path)
    refused: list[Busy] = []

    def at() -> None:
        node = SealingNode(tmp_path)
        known = node.facts().state_encryption
        if refused or known is None:
            return
        try:
            list(converge(cheap_wish(known), node.volume_settings, node.ports))  # which only opens
        except Busy as error:
            refused.append(error)

    with points(tmp_path, at):
        OPERATIONS[name].perform(tmp_path)
    assert "STATE is locked by process" in str(refused[0])
    OPERATIONS[name].next_boot(tmp_path)


@pytest.mark.parametrize("name", sampled(COMMANDS, 3, salt="command"))
def test_while_a_boot_runs_a_command_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is Busy, and nothing was written."""
    _impatient(monkeypatch)
    OPERATIONS[name].prepare(tmp_path)
    node = Node(tmp_path)
    before = node.bytes_on_disk()
    with node.ports.disks.volume_lock(STATE), pytest.raises(Busy, match="STATE is locked by process"):
        OPERATIONS[name].perform(tmp_path)
    assert node.bytes_on_disk() == before


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "Settings", partial(Settings, timeouts=Timeouts(lock_s=0)))


# ---- a restore ------------------------------------------------------------------------------------------------------


def test_a_slot_added_between_looking_and_restoring_stops_the_restore(tmp_path: Path) -> None:
    """What was said to vanish is not what would vanish now: nothing is written."""
    restores.changed(tmp_path)
    node, content = Running(tmp_path).node, (tmp_path / "backup").read_bytes()
    allowed = header_restore.Allowed(older=True)
    seen = header_restore.look_at(node, STATE, content, allowed)
    stock(*add_by_hand(tmp_path, 12))
    before = Node(tmp_path).bytes_on_disk()
    with pytest.raises(Refused, match="changed meanwhile; nothing was written"):
        header_restore.restore(node, seen, content, allowed)
    assert Node(tmp_path).bytes_on_disk() == before
    assert stock_opens(tmp_path / "state.img", BY_HAND, 12)


def test_a_slot_added_while_a_restore_writes_comes_after_it_or_is_refused(tmp_path: Path) -> None:
    """The stock tool waits for the restore; if it says that the slot was added, it was, to the header that is there."""
    restores.changed(tmp_path)
    others: list[subprocess.Popen[bytes]] = []
    argv = [CRYPTSETUP, "--batch-mode", *add_by_hand(tmp_path, 12)]

    def at() -> None:
        descriptor_is_open = any(path.startswith(str(tmp_path / "state.img")) for path in _open_files())
        if not others and descriptor_is_open:
            others.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    with points(tmp_path, at):
        restores.restore(tmp_path)
    (other,) = others
    added = other.wait() == 0
    assert stock_opens(tmp_path / "state.img", BY_HAND) == added
    if added:
        stock("luksRemoveKey", str(tmp_path / "state.img"), key=BY_HAND)
    restores.expect_saved(tmp_path)


def _open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return found


def test_whoever_looked_before_the_restore_writes_nothing_after_it(tmp_path: Path) -> None:
    """A program that has the header from before in its memory is refused by libcryptsetup; the saved one is whole."""
    restores.changed(tmp_path)
    image = str(tmp_path / "state.img")
    with (
        Device.open(image) as device,
        Secret.take(bytes(OTHER)) as known,
        Secret.take(bytes(BY_HAND)) as other,
        device.volume_key(known, slot=1) as volume_key,
    ):
        restores.restore(tmp_path)
        with pytest.raises(CryptsetupError):
            device.keyslots.add_by_volume_key(12, other, volume_key, CHEAPEST_KDF)
    assert not stock_opens(tmp_path / "state.img", BY_HAND)
    restores.expect_saved(tmp_path)
