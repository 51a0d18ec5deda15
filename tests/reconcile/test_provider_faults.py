"""A provider fails, or gives a wrong key, at any of its calls in a run: what opened a slot before opens it after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import pytest

from luksctl.errors import KeyRejected, LuksctlError, ProviderUnavailable, TokenInvalid
from luksctl.model.config import ConfiguredKey, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.ports import KeyProvider, MadeKey, Ports
from luksctl.model.step import Done
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import converge
from luksctl.reconcile.recovery import recovery_session, recovery_slots
from luksctl.reconcile.rotation import rotate
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.providers import DOWN, FakeProviders, encrypted, kms, static
from tests.reconcile.world import DEVICE, SETTINGS, World, wish
from tests.sampling import sampled

HELD = b"what stands on the sheet"


class Fault(Enum):
    """What one call, or every one from then on, comes to."""

    DOWN = "cannot be reached"
    REJECTED = "refuses"
    INVALID = "does not know its token"
    WRONG = "gives a wrong key"
    WRONG_FIRST = "gives a wrong key and then fails"


@dataclass
class Faulty:
    """Providers whose `at`-th call (from 0) is a fault; with `lasting` all later ones, too."""

    inner: FakeProviders
    at: int
    fault: Fault
    lasting: bool
    calls: int = 0

    def provider(self, key: ConfiguredKey) -> KeyProvider:  # noqa: ARG002  # one for all
        """Return this object."""
        return self

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        """Make a key, or fail; a wrong one is another than the token recovers."""
        if not self._is_fault():
            return self.inner.make(volume, key)
        if self.fault not in (Fault.WRONG, Fault.WRONG_FIRST):
            raise self._error()
        made = self.inner.make(volume, key)
        made.key.close()
        return MadeKey(self._wrong(), made.token)

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:
        """Recover the key, or fail."""
        if not self._is_fault():
            return self.inner.recover(volume, key, token)
        return self._recover_badly()

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        """Have nothing to say."""
        return None

    def _recover_badly(self) -> Iterator[Secret]:
        if self.fault in (Fault.WRONG, Fault.WRONG_FIRST):
            yield self._wrong()
        if self.fault is not Fault.WRONG:
            raise self._error()

    def _is_fault(self) -> bool:
        number, self.calls = self.calls, self.calls + 1
        return number == self.at or (self.lasting and number > self.at)

    def _wrong(self) -> Secret:
        return self.inner.track(Secret.take(b"wrong, and another one at each call: %d" % self.calls))

    def _error(self) -> LuksctlError:
        if self.fault is Fault.REJECTED:
            return KeyRejected("this machine may not have it")
        return TokenInvalid("sealed by somebody else") if self.fault is Fault.INVALID else ProviderUnavailable(DOWN)


def following(new: VolumeEncryption, *old: VolumeEncryption) -> DesiredVolume:
    """Return the wish that STATE's own config makes of it."""
    return replace(wish(new), sync=True, follow_in_meta=True, fallback=old)


@dataclass(frozen=True)
class Case:
    """A run that brings `old` to `new`."""

    old: VolumeEncryption
    new: VolumeEncryption
    run: Callable[[Ports], Iterator[Done]]
    before: Callable[[Ports], None] = lambda _: None


def changed(old: VolumeEncryption, new: VolumeEncryption) -> Case:
    """Return a boot after which the config names other keys."""
    return Case(old, new, lambda ports: converge(following(new, old), SETTINGS, ports))


def with_recovery(ports: Ports) -> None:
    """Add a recovery key."""
    list(adding(ports))


KEYS = encrypted(static(0, b"one"), kms(1))


def adding(ports: Ports) -> Iterator[Done]:
    """Yield the steps that add a recovery key."""
    with recovery_session(following(KEYS), SETTINGS, ports) as running, Secret.take(HELD) as held:
        yield from running.unlock()
        yield from running.add(running.free_slot(), held)


def removing(ports: Ports) -> Iterator[Done]:
    """Yield the steps that remove it."""
    with recovery_session(following(KEYS), SETTINGS, ports) as running:
        yield from running.unlock()
        header = ports.disks.header_copies(DEVICE).best
        assert header is not None
        yield from running.remove(*recovery_slots(header))


def rotating(keys: VolumeEncryption, *slots: int) -> Case:
    """Return a rotation by command."""
    return Case(keys, keys, lambda ports: rotate(replace(following(keys), rotate=slots), SETTINGS, ports))


CASES = {
    "add": changed(encrypted(static(0)), encrypted(static(0), kms(1))),
    "remove": changed(encrypted(static(0), kms(1)), encrypted(kms(1))),
    "kms in place of static": changed(encrypted(static(0)), encrypted(kms(0))),
    "static in place of kms": changed(encrypted(kms(0)), encrypted(static(0))),
    "another passphrase": changed(encrypted(static(0, b"one"), kms(1)), encrypted(static(0, b"two"), kms(1))),
    "another slot": changed(encrypted(kms(0)), encrypted(kms(3))),
    "swap": changed(encrypted(static(0), kms(1)), encrypted(kms(0), static(1))),
    "rotate the only key": rotating(encrypted(kms(1)), 1),
    "rotate two keys": rotating(encrypted(static(0), kms(1), kms(4)), 1, 4),
    "recovery add": Case(KEYS, KEYS, adding),
    "recovery remove": Case(KEYS, KEYS, removing, with_recovery),
}


# One that fails, and one that gives a wrong key.
TRIED = (*sampled((Fault.DOWN, Fault.REJECTED, Fault.INVALID), 3), *sampled((Fault.WRONG, Fault.WRONG_FIRST), 2))


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", TRIED)
@pytest.mark.parametrize("name", CASES)
def test_a_fault_at_any_call_costs_no_slot_that_worked(name: str, fault: Fault, lasting: bool) -> None:  # noqa: FBT001
    """Each old key opens alone, or what the config has in its place; healthy again, the next boot ends in sync."""
    case = CASES[name]
    number = 0
    while True:
        world = World()
        world.converge(wish(case.old))
        case.before(world.ports)
        world.reboot()
        faulty = Faulty(world.keys, number, fault, lasting)
        with suppress(LuksctlError):
            list(case.run(replace(world.ports, provider=faulty.provider)))
        if faulty.calls <= number:
            break
        assert world.keys.left_open() == 0, number
        world.reboot()
        for old in case.old.keys:
            assert_opens(world, old, case.new)
        world.converge(following(case.new, case.old))
        assert_in_sync(world, case.new)
        number += 1
    assert number > 0


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", TRIED)
def test_a_fault_at_any_call_of_a_first_format_is_made_good_by_the_next_boot(fault: Fault, lasting: bool) -> None:  # noqa: FBT001
    """It formatted or it did not; the keys that could not be made are added once their provider is back."""
    number = 0
    while True:
        world = World()
        faulty = Faulty(world.keys, number, fault, lasting)
        with suppress(LuksctlError):
            list(converge(wish(KEYS), SETTINGS, replace(world.ports, provider=faulty.provider)))
        if faulty.calls <= number:
            break
        assert world.keys.left_open() == 0, number
        world.reboot()
        world.converge(wish(KEYS))
        world.converge(following(KEYS))
        assert_in_sync(world, KEYS)
        number += 1
    assert number > 2


def assert_opens(world: World, old: ConfiguredKey, new: VolumeEncryption) -> None:
    """Check that a node whose only key is `old`, or the one in its place, comes up; where none is, all of `new`."""
    instead = [key for key in new.keys if key.slot == old.slot] or list(new.keys)
    for key in instead:
        world.converge(replace(wish(encrypted(key)), fallback=(encrypted(old),)))
        assert world.power.writes == []
        world.reboot()


def assert_in_sync(world: World, keys: VolumeEncryption) -> None:
    """Check that each key opens its slot, nothing is announced, and another boot writes nothing."""
    header = world.medium.copies().best
    assert header is not None
    books = unverified(header)
    assert books is not None
    assert books.underway == ()
    assert {slot.number for slot in header.keyslots} - set(recovery_slots(header)) == {key.slot for key in keys.keys}
    for key in keys.keys:
        world.reboot()
        world.converge(wish(encrypted(key)))
    world.reboot()
    world.converge(following(keys))
    assert world.power.writes == []
