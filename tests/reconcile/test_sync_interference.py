"""Somebody or something comes between the steps of a sync: a provider fails, a slot is taken; no way in is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from luksctl.errors import Degraded, LuksctlError, ProviderUnavailable, TokenInvalid
from luksctl.model.config import ConfiguredKey, KmsKey, VolumeEncryption
from luksctl.model.desired import DesiredVolume
from luksctl.model.header import Keyslot, LuksHeader
from luksctl.model.ports import KeyProvider, MadeKey, Ports
from luksctl.reconcile.books import unverified
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from luksctl.value import replace
from tests.reconcile.medium import Area
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.world import SETTINGS, World, wish

A, B = "a.example:4050", "b.example:4050"


@dataclass
class Kms:
    """Two servers: what one sealed the other one rejects. `answers` counts down to an outage."""

    answers: dict[str, int] = field(default_factory=dict)
    sealed: dict[str, bytes] = field(default_factory=dict)

    def provider(self, key: ConfiguredKey) -> KeyProvider:
        """Return who serves `key`."""
        if not isinstance(key.source, KmsKey):
            raise AssertionError("there are only kms keys here")
        return _Server(self, key.source.endpoint)


@dataclass
class _Server:
    kms: Kms
    endpoint: str

    def make(self, volume: str, key: ConfiguredKey) -> MadeKey:
        self._answer()
        made = Secret.random(32)
        name = f"{self.endpoint} {volume} {key.slot} {len(self.kms.sealed)}"
        with made.view() as view:
            self.kms.sealed[name] = bytes(view)
        return MadeKey(made, json.dumps({"type": "sideroKMS", "keyslots": [], "sealed": name}))

    def recover(self, volume: str, key: ConfiguredKey, token: str | None) -> Iterator[Secret]:  # noqa: ARG002
        self._answer()
        name = "" if token is None else json.loads(token)["sealed"]
        if not name.startswith(self.endpoint):
            raise TokenInvalid("sealed by another server")
        yield Secret.take(self.kms.sealed[name])

    def explain_rejection(self, volume: str, key: ConfiguredKey) -> str | None:  # noqa: ARG002
        return None

    def _answer(self) -> None:
        left = self.kms.answers.get(self.endpoint, 1 << 30)
        if left == 0:
            raise ProviderUnavailable("connection refused")
        self.kms.answers[self.endpoint] = left - 1


def at(slot: int, endpoint: str) -> ConfiguredKey:
    """Return a kms key of one of the servers."""
    return ConfiguredKey(slot, KmsKey(endpoint))


def following(new: VolumeEncryption, *old: VolumeEncryption) -> DesiredVolume:
    """Return the wish that STATE's own config makes of it."""
    return replace(wish(new), sync=True, follow_in_meta=True, fallback=old)


# Asked once to open, once to inspect, to make, to give back, to prove in the spare, to prove in the slot itself.
ASKED_BEFORE_PROOF = 4


@pytest.mark.parametrize("answers", range(7))
def test_a_server_that_goes_down_at_any_point_leaves_the_old_slot_and_its_token(answers: int) -> None:
    """The only key moves to another server, which goes down: the old one opens the volume until the new one is proven.

    When the server is back, the next boot ends in sync.
    """
    old, new = encrypted(at(0, A)), encrypted(at(0, B))
    world, servers = World(), Kms()
    ports = Ports(world.ports.disks, world.ports.headers, world.ports.meta, servers.provider)
    list(converge(wish(old), SETTINGS, ports))
    servers.answers[B] = answers
    world.reboot()
    with suppress(Degraded):
        list(converge(following(new, old), SETTINGS, ports))
    if answers <= ASKED_BEFORE_PROOF:
        world.reboot()
        assert servers.answers[B] == 0
        list(converge(replace(wish(new), fallback=(old,)), SETTINGS, ports))
    del servers.answers[B]
    world.reboot()
    list(converge(following(new, old), SETTINGS, ports))
    assert_slots(world, new)
    del servers.sealed[next(iter(servers.sealed))]  # what A sealed
    world.reboot()
    list(converge(wish(new), SETTINGS, ports))


def assert_slots(world: World, keys: VolumeEncryption, *foreign: int) -> None:
    """Check that the slots are those of `keys` and the `foreign` ones, and that nothing is announced."""
    header = header_of(world)
    assert {slot.number for slot in header.keyslots} == {key.slot for key in keys.keys} | set(foreign)
    books = unverified(header)
    assert books is not None
    assert books.underway == ()


def header_of(world: World) -> LuksHeader:
    """Return the header on the medium."""
    header = world.medium.copies().best
    assert header is not None
    return header


FOREIGN_KEY = b"added by hand"


def add_by_hand(world: World, number: int) -> bool:
    """Add a keyslot as another tool does; False where the number is taken."""
    header = header_of(world)
    if header.keyslot(number) is not None:
        return False
    world.medium.areas[number] = Area(FOREIGN_KEY, world.medium.digest_key)
    added = Keyslot(number, "pbkdf2", None, None, None, 1000, "aes-xts-plain64")
    world.medium.change(replace(header, keyslots=(*header.keyslots, added), seqid=header.seqid + 1))
    return True


CHANGES = {
    "add": (encrypted(static(0)), encrypted(static(0), static(1, b"two"))),
    "add kms": (encrypted(static(0)), encrypted(static(0), kms(1))),
    "change in place": (encrypted(static(0)), encrypted(static(0, b"two"))),
    "kms in place of static": (encrypted(static(0)), encrypted(kms(0))),
    "move": (encrypted(static(0)), encrypted(static(1, b"two"))),
    "remove": (encrypted(static(0), static(1, b"two")), encrypted(static(1, b"two"))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("number", [0, 1, 2, 29, 30])
def test_a_slot_added_by_hand_between_any_two_steps_stays(change: str, number: int) -> None:
    """Whatever number it takes, also one that the run is about to use: it still opens, and the volume does as well."""
    old, new = CHANGES[change]
    before = 0
    while True:
        world = World()
        world.converge(wish(old))
        world.reboot()
        run = converge(following(new, old), SETTINGS, world.ports)
        ended = next((True for _ in range(before) if next(run, None) is None), False)
        if ended:
            break
        added = add_by_hand(world, number)
        with suppress(LuksctlError):
            list(run)
        del run
        for _ in range(2):
            world.reboot()
            with suppress(Degraded):
                world.converge(following(new, old))
        if added:
            assert world.medium.areas.get(number) == Area(FOREIGN_KEY, world.medium.digest_key), before
            assert header_of(world).keyslot(number) is not None, before
        wanted = {key.slot for key in new.keys} - ({number} if added else set())
        assert wanted <= {slot.number for slot in header_of(world).keyslots}
        before += 1
    assert before > 2


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("number", [0, 1, 30])
def test_a_slot_changed_by_hand_between_any_two_steps_is_not_taken_for_proven(change: str, number: int) -> None:
    """Its passphrase is another one now, also where that is after the proof: it is never noted as holding our key.

    A run that says it is in sync leaves slots that all open with their configured keys.
    """
    old, new = CHANGES[change]
    changed = before = 0
    while True:
        world = World()
        world.converge(wish(old))
        world.reboot()
        run = converge(following(new, old), SETTINGS, world.ports)
        if next((True for _ in range(before) if next(run, None) is None), False):
            break
        before += 1
        if header_of(world).keyslot(number) is None:
            del run
            continue
        world.medium.areas[number] = Area(FOREIGN_KEY, world.medium.digest_key)
        changed += 1
        with suppress(LuksctlError):
            list(run)
        del run
        world.reboot()
        try:
            world.converge(following(new, old))
        except LuksctlError:
            continue  # it was the last way in, and whoever changed it has it now
        for key in new.keys:
            alone = World(keys=world.keys)
            alone.medium, alone.meta = world.medium, world.meta
            alone.converge(wish(encrypted(key)))
    assert changed or number not in {key.slot for key in (*old.keys, *new.keys)}
