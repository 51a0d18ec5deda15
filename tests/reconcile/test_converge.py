"""Converging: which locks are held when, what is looked at again, and what counts as not converged."""

from __future__ import annotations

import pytest

from luksctl.errors import Busy, Degraded, DeviceError, NotBlank, NotConverged, Refused
from luksctl.model.config import STATE
from luksctl.model.header import Copies
from luksctl.model.meta import MetaState
from luksctl.model.observed import Blank, Luks2, Mapping
from luksctl.model.probe import Signature
from luksctl.model.step import OpenVolume
from luksctl.reconcile.converge import converge
from luksctl.value import replace
from tests.reconcile.medium import TORN
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.samples import EXT4
from tests.reconcile.world import DEVICE, SETTINGS, World, wish

BOTH = encrypted(static(0), kms(3))


def formatted() -> World:
    """Return a rebooted world after a first boot."""
    world = World()
    world.converge(wish(BOTH))
    world.reboot()
    world.calls.clear()
    return world


def test_a_format_holds_both_locks_until_its_end() -> None:
    """The volume's lock is taken before anything is read, the disk's before the look that decides."""
    world = World()
    world.converge(wish(BOTH))
    calls = world.calls
    assert calls[0] == "lock volume STATE"
    disk = calls.index("lock disk /dev/sda")
    assert any(call.startswith("header_copies") for call in calls[disk:])
    assert disk < calls.index("format /dev/sda3")
    assert calls.index("unlock disk /dev/sda") > calls.index("clear_subsystem")
    assert calls[-1] == "unlock volume STATE"
    assert world.held == []


def test_opening_takes_no_disk_lock() -> None:
    """Only a format holds the whole disk."""
    world = formatted()
    world.converge(wish(BOTH))
    assert not any("lock disk" in call for call in world.calls)


def test_a_refused_format_takes_no_disk_lock() -> None:
    """Nothing to do under the lock: it is not taken."""
    world = World()
    with pytest.raises(Refused):
        world.converge(wish(BOTH, refusal="the node is locked"))
    assert not any("lock disk" in call for call in world.calls)


def test_what_appeared_while_the_lock_was_awaited_is_not_formatted() -> None:
    """Blank at first, somebody's filesystem under the lock: the second look decides."""
    world = World()

    def somebody_makes_a_filesystem() -> None:
        world.medium.filesystem = EXT4

    world.after["lock disk /dev/sda"] = somebody_makes_a_filesystem
    with pytest.raises(NotBlank):
        world.converge(wish(BOTH))
    assert world.power.writes == []


def test_a_volume_that_moved_while_the_lock_was_awaited_is_not_formatted() -> None:
    """The lock is on one disk and the volume is on another one now: try again, rather than format unlocked."""
    world = World()

    def moves() -> None:
        world.found = replace(DEVICE, path="/dev/sdb3", disk="/dev/sdb")

    world.after["lock disk /dev/sda"] = moves
    with pytest.raises(Busy, match="/dev/sdb3"):
        world.converge(wish(BOTH))
    assert world.power.writes == []


@pytest.mark.parametrize("lock", ["lock volume STATE", "lock disk /dev/sda"])
def test_a_lock_that_stays_held_changes_nothing(lock: str) -> None:
    """Busy comes through, and nothing was written."""
    world = World()
    world.fail[lock] = Busy("another luksctl")
    with pytest.raises(Busy):
        world.converge(wish(BOTH))
    assert world.power.writes == []
    assert world.held == []


def test_locks_are_free_after_a_failure() -> None:
    """A failing step lets go of both locks."""
    world = World()
    world.fail["make_filesystem"] = DeviceError("mkfs.xfs ended with status 1")
    with pytest.raises(DeviceError):
        world.converge(wish(BOTH))
    assert world.held == []


def test_a_run_that_nobody_finishes_frees_its_locks_when_closed() -> None:
    """Stopping halfway is like a failure."""
    world = World()
    run = converge(wish(BOTH), SETTINGS, world.ports)
    next(run)
    assert world.held == ["volume STATE", "disk /dev/sda"]
    run.close()  # type: ignore[attr-defined]  # converge is a generator
    assert world.held == []


def test_a_converged_boot_only_opens() -> None:
    """After the first boot: one step, no write, and the keys' providers are asked once."""
    world = formatted()
    done = world.converge(wish(BOTH))
    assert [type(each.step) for each in done] == [OpenVolume]
    assert world.power.writes == []
    assert world.converge(wish(BOTH)) == []


def test_a_step_that_changed_nothing_is_not_converged() -> None:
    """A repair of META that leaves it as it was: reported, not repeated for ever."""
    world = formatted()
    world.meta.second = None
    world.meta.mend = lambda: None  # type: ignore[method-assign]
    with pytest.raises(NotConverged, match="still to do after applying the plan: RepairMeta") as caught:
        world.converge(wish(BOTH))
    assert caught.value.volume == STATE


def test_an_opened_volume_without_filesystem_is_refused_after_opening() -> None:
    """Only opening shows that nothing is inside; the second look says so, and nothing is made there."""
    world = formatted()
    world.medium.inside.clear()
    with pytest.raises(Refused, match="holds no filesystem"):
        world.converge(wish(BOTH))
    assert world.power.writes == []


def test_an_open_volume_that_cannot_be_read_is_refused_with_the_cause() -> None:
    """A disk that fails is no missing filesystem, and nothing is made over it either."""
    world = formatted()
    world.open_mapping = Mapping(f"luks2-{STATE}", f"/dev/mapper/luks2-{STATE}", DEVICE.path, problem="it is broken")
    with pytest.raises(Refused, match="is open, but it is broken; nothing was made there"):
        world.converge(wish(BOTH))
    assert world.power.writes == []


def test_copies_are_equal_before_converging_ends() -> None:
    """A damaged copy of our volume is whole when converge returns, which is before any mount."""
    world = formatted()
    world.medium.second = None
    world.converge(wish(BOTH))
    assert world.medium.copies().state is Copies.EQUAL


def test_looking_writes_nothing_and_locks_nothing() -> None:
    """A look for `plan` and `status` is free."""
    world = World()
    found = world.look(wish(BOTH))
    assert isinstance(found.observed, Blank)
    assert found.plan.destroys_data
    assert world.power.writes == []
    assert not any(call.startswith("lock") for call in world.calls)


def test_each_look_proposes_its_own_header_uuid() -> None:
    """A header UUID is never used for two volumes."""
    world = World()
    uuids = {
        step.header_uuid for _ in range(5) for step in world.look(wish(BOTH)).plan.steps if hasattr(step, "header_uuid")
    }
    assert len(uuids) == 5


def test_a_mount_is_never_reached_over_a_torn_meta() -> None:
    """META whose repair fails ends the run with that error, before the volume is opened."""
    world = formatted()
    world.meta.second = None
    world.fail["meta repair"] = DeviceError("I/O error")
    with pytest.raises(DeviceError):
        world.converge(wish(BOTH))
    assert world.meta.state() is MetaState.FIRST_ONLY
    assert world.open_mapping is None


def test_swapping_a_plain_filesystem_in_is_refused() -> None:
    """An encrypted STATE replaced by a plain one is not mounted, whatever the config at hand says."""
    world = formatted()
    world.medium.first = world.medium.second = None
    world.medium.filesystem = Signature("xfs", "STATE", "e4e4", "filesystem")
    for encryption in (BOTH, None):
        with pytest.raises(Refused):
            world.converge(wish(encryption))
    assert world.power.writes == []
    assert not isinstance(world.observe(), Luks2)


@pytest.mark.parametrize("absent", [True, False])
def test_without_meta_the_slots_of_state_stay(absent: bool) -> None:  # noqa: FBT001
    """META could not follow, and what it said may be all that opens STATE: nothing is written, and that is told."""
    world = World()
    world.converge(wish(encrypted(static(0))))
    world.reboot()
    if absent:
        world.meta.absent = True
    else:
        world.meta.first = world.meta.second = TORN
    writes = len(world.power.writes)
    following = replace(wish(encrypted(static(0), static(1, b"more"))), sync=True, follow_in_meta=True)
    with pytest.raises(Degraded, match="could not follow"):
        world.converge(following)
    assert len(world.power.writes) == writes
