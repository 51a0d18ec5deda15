"""A re-encryption fails below an open mapping: what the kernel still has of it decides what is said and done."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from luksctl.errors import CryptsetupError, DeviceError, KeyRejected, LuksctlError, NeedsReboot
from luksctl.model.config import STATE
from luksctl.model.observed import Mapping
from luksctl.reconcile.keys import Failures
from tests.faults.reencryptions import KEYS, formatted, next_boot, session_of, start
from tests.faults.tpm_sealings import TpmNode
from tests.reconcile.images import Boot, Node

MAPPED, ZONE = f"luks2-{STATE}", f"luks2-{STATE}-hotzone-forward"
BROKEN = CryptsetupError("Failed to read hotzone area", errno=errno.EIO, operation="re-encrypt on /dev/sda3")
TAKEN = CryptsetupError("another process has it", errno=errno.EBUSY, operation="prepare the re-encryption")
UNREAD = DeviceError("/dev/sda3 cannot be read at byte 16777216", operation="read")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node whose STATE is open, and being re-encrypted."""
    formatted(tmp_path)
    start(tmp_path)
    found = TpmNode(tmp_path)
    opened_with = found.inside.read_text(encoding="ascii")
    found.boot = Boot(Mapping(MAPPED, f"/dev/mapper/{MAPPED}", str(found.state)), opened_with)
    return found


def error_of(node: Node, failure: LuksctlError, *, before: str | None = None, after: str | None = None) -> LuksctlError:
    """Go on, and return the error; the kernel has these hot zones before the run and after it."""
    node.boot.hot_zone = before

    def break_off() -> LuksctlError:
        node.boot.hot_zone = after
        return failure

    node.break_off = break_off
    with pytest.raises(LuksctlError) as caught, session_of(node) as running:
        list(running.go_on())
    return caught.value


def test_what_waits_for_its_hot_zone_fails_and_a_reboot_is_asked_for(node: Node, tmp_path: Path) -> None:
    """The library leaves it suspended; nothing but opening the volume anew can go on, and that does."""
    error = error_of(node, BROKEN, after=ZONE)
    assert isinstance(error, NeedsReboot)
    assert (error.operation, error.__cause__) == (BROKEN.operation, BROKEN)
    assert "Failed to read hotzone area; until the next boot" in error.cause
    assert node.failed_hot_zones == [ZONE]
    next_boot(tmp_path)


def test_one_that_cannot_be_failed_is_told(node: Node) -> None:
    """Without dmsetup whoever reads there waits, and the reboot is asked for all the same."""
    node.hot_zone_problem = "dmsetup is not installed"
    error = error_of(node, BROKEN, after=ZONE)
    assert isinstance(error, NeedsReboot)
    assert any("dmsetup is not installed" in note for note in error.__notes__)


def test_what_was_left_over_before_is_not_touched(node: Node) -> None:
    """It may be in use by a program that re-encrypts; where it is not, only a reboot goes on."""
    assert isinstance(error_of(node, BROKEN, before=ZONE, after=ZONE), NeedsReboot)
    assert error_of(node, TAKEN, before=ZONE, after=ZONE) is TAKEN
    assert node.failed_hot_zones == []


def test_without_a_hot_zone_the_error_is_the_library_s(node: Node) -> None:
    """It failed before the kernel held anything back: the next try needs no reboot."""
    assert error_of(node, UNREAD) is UNREAD
    assert node.failed_hot_zones == []


def test_a_hot_zone_that_cannot_be_mended_is_not_put_down_to_the_keys() -> None:
    """The disk keeps the volume from opening, so nobody is sent to look for another key."""
    key, failing, wrong = KEYS.keys[0], Failures(STATE), Failures(STATE)
    failing.add(key, CryptsetupError("Failed to recover sector 0", errno=errno.EINVAL, operation="open /dev/sda3"))
    wrong.add(key, KeyRejected("the key does not open this slot"))
    assert "of the disk (journalctl -k)" in (failing.combined("opens the volume").hint or "")
    assert "check the keys" in (wrong.combined("opens the volume").hint or "")
