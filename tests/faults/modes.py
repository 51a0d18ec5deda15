"""A running node is given a newer config, in each mode: afterwards one config rules, and its keys alone open STATE."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from luksctl.node.boot import turned_over
from luksctl.node.modes import How, Mode
from luksctl.node.running_config import take
from luksctl.node.taking_back import revert
from tests.faults.running import Running, config, encryption, prepare
from tests.node.image_node import MadeUpSystem
from tests.reconcile.stage import assert_in_sync, keys_that_open

OLD, NEW, NEWER = "the first key", "the second key", "the third key"
_KNOWN: Final = (OLD, NEW, NEWER)


class _WithUnits(MadeUpSystem):
    """A machine on which the service that takes a trial back starts, and then does nothing."""

    def start_unit(self, unit: str) -> None:
        """Start it."""

    def reset_failed(self, unit: str) -> None:
        """Forget that it failed."""


def _running(directory: Path) -> Running:
    """Return the node with STATE open and mounted, in the boot in which `perform` is."""
    running = Running(directory, _WithUnits)
    running.open()
    return running


def with_old(directory: Path) -> None:
    """Make a node whose STATE the first key opens."""
    prepare(directory, config(OLD))


def with_staged(directory: Path) -> None:
    """Make one for which a config waits."""
    with_old(directory)
    staged(directory)


def with_trial(directory: Path) -> None:
    """Make one that tries a config."""
    with_old(directory)
    tried(directory)


def _take(directory: Path, passphrase: str, mode: Mode) -> None:
    take(_running(directory).node, config(passphrase), How(mode))


def at_once(directory: Path) -> None:
    """Apply a config without a reboot."""
    _take(directory, NEW, Mode.NO_REBOOT)


def staged(directory: Path) -> None:
    """Leave a config to the next boot."""
    _take(directory, NEW, Mode.STAGED)


def over_staged(directory: Path) -> None:
    """Apply another config than the one that waits: that one must not come back."""
    _take(directory, NEWER, Mode.NO_REBOOT)


def tried(directory: Path) -> None:
    """Begin a trial."""
    _take(directory, NEW, Mode.TRY)


def confirmed(directory: Path) -> None:
    """Confirm it, by applying the same config."""
    _take(directory, NEW, Mode.NO_REBOOT)


def taken_back(directory: Path) -> None:
    """Take it back, as the service does when its time is over."""
    revert(_running(directory).node)


def by_a_boot(directory: Path) -> None:
    """Boot with a config that waits: it becomes STATE's own, and the keyslots follow."""
    _boot(directory)


def _boot(directory: Path) -> str:
    """Boot, and return the passphrase of the config that rules; raises unless its key alone opens STATE."""
    running = Running(directory)
    running.system.boot = "boot 2"
    running.open()
    turned_over(running.node, running.node.ports.meta.load())
    keys = encryption(running.boot())
    assert_in_sync(running.images, keys)
    (ruling,) = [text for text in _KNOWN if keys == encryption(config(text))]
    found = keys_that_open(running.images, *(text.encode() for text in _KNOWN))
    if found != {ruling.encode(): {0}}:
        raise AssertionError(f"the config says {ruling}, and slots are opened by {found}")
    if running.images.facts().record.trial is not None:
        raise AssertionError("a trial is announced that no boot belongs to")
    return ruling


def next_boot(directory: Path) -> None:
    """Boot twice: the old config rules, or the new one, and stays."""
    first = _boot(directory)
    if _boot(directory) != first:
        raise AssertionError("another config rules the boot after")


def next_boot_by_old(directory: Path) -> None:
    """Boot: whatever was on trial is gone."""
    if _boot(directory) != OLD:
        raise AssertionError("a config on trial outlived the power")


def next_boot_by_new(directory: Path) -> None:
    """Boot with a config that waited: it rules."""
    if _boot(directory) != NEW:
        raise AssertionError("the config that waited is lost")


def next_boot_of_two(directory: Path) -> None:
    """Boot twice where one config waited and another was applied; once that is STATE's own, the first is gone."""
    own = Running(directory).stored()
    next_boot(directory)
    if own == config(NEWER) and Running(directory).stored() != own:
        raise AssertionError("a config that waited was put over a newer one")
