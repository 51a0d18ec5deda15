"""Keys while a plan is applied: made, given back, written, proven; skipped or fatal as the policy says; wiped."""

from __future__ import annotations

import contextlib
import gc
import json
import logging

import pytest

from luksctl.errors import (
    DeviceError,
    KdfOutOfBounds,
    Locked,
    LuksctlError,
    NotConverged,
    ProviderUnavailable,
    Refused,
)
from luksctl.model.config import (
    CHEAPEST_KDF,
    EPHEMERAL,
    STATE,
    EncryptionPolicy,
    FormatRequires,
    KdfCost,
    VolumeEncryption,
)
from luksctl.model.desired import DesiredVolume
from luksctl.model.observed import Luks2
from luksctl.model.plan import Plan
from luksctl.model.step import (
    AddKeyslot,
    Done,
    MakeKey,
    OpenVolume,
    ProveAnyKey,
    ProveKey,
    Step,
    WriteStateEncryption,
    WriteToken,
)
from luksctl.reconcile.apply import apply
from luksctl.reconcile.converge import converge
from luksctl.secret import Secret
from luksctl.value import replace
from tests.marker import MARKER, shown_in
from tests.reconcile.medium import PowerCut
from tests.reconcile.providers import DOWN, encrypted, kms, node_id, static
from tests.reconcile.world import DEVICE, SETTINGS, World, wish

ALL_KEYS = EncryptionPolicy(kdf=KdfCost(4, 64, 1), format_requires=FormatRequires.ALL)
BOTH = encrypted(static(0), kms(3))


def skipped(done: list[Done], kind: type[Step]) -> dict[int | None, str]:
    """Return slot and reason of every skipped step of a kind."""
    return {each.slot: each.skipped for each in done if isinstance(each.step, kind) and each.skipped is not None}


def formatted(encryption: VolumeEncryption = BOTH, volume: str = STATE) -> World:
    """Return a world after a first boot with `encryption`, rebooted."""
    world = World()
    world.converge(wish(encryption, volume))
    world.reboot()
    world.calls.clear()
    return world


def test_every_key_is_given_back_before_the_first_write() -> None:
    """Each provider recovers what it made while nothing is written yet."""
    world = World()
    world.keys.recovers_before_down = {0: 0, 3: 0}
    with pytest.raises(ProviderUnavailable):
        world.converge(wish(BOTH))
    assert world.power.writes == []


def test_a_key_that_cannot_be_made_is_a_failed_sync() -> None:
    """With `any`, the other key formats the volume; the slot of the missing one stays free, with the reason."""
    world = World()
    world.keys.make_down = {3}
    done = world.converge(wish(BOTH))
    assert skipped(done, MakeKey) == {3: DOWN}
    assert set(skipped(done, AddKeyslot)) == set(skipped(done, ProveKey)) == {3}
    assert 3 in skipped(done, WriteToken)
    observed = world.observe()
    assert isinstance(observed, Luks2)
    assert [slot.number for slot in observed.header.keyslots] == [0]


def test_a_key_that_is_not_given_back_is_not_written() -> None:
    """A provider that recovers something else than it made never gets a slot."""
    world = World()
    world.keys.wrong_after = {3: 0}
    done = world.converge(wish(BOTH))
    assert "does not give back" in skipped(done, MakeKey)[3]
    assert 3 not in world.medium.areas


@pytest.mark.parametrize("fault", ["make down", "recover down", "rejected", "wrong"])
def test_with_all_required_one_missing_key_stops_before_the_first_write(fault: str) -> None:
    """`formatRequires: all` writes nothing unless every key is made and given back."""
    world = World()
    match fault:
        case "make down":
            world.keys.make_down = {3}
        case "recover down":
            world.keys.recovers_before_down = {3: 0}
        case "rejected":
            world.keys.make_rejected = {3}
        case _:
            world.keys.wrong_after = {3: 0}
    expected = ProviderUnavailable if fault.endswith("down") else Refused
    with pytest.raises(expected, match=r"STATE: no configured key could be made: slot 3 \(kms key\)"):
        world.converge(wish(BOTH, policy=ALL_KEYS))
    assert world.power.writes == []
    assert world.keys.left_open() == 0


def test_without_any_key_nothing_is_announced() -> None:
    """When no key at all can be made, every reason is shown and META stays as it was."""
    world = World()
    world.keys.make_down, world.keys.make_rejected = {3}, {0}
    with pytest.raises(ProviderUnavailable) as caught:
        world.converge(wish(BOTH))
    assert "slot 0" in str(caught.value)
    assert DOWN in str(caught.value)
    assert caught.value.hint == "is the KMS up?"
    assert world.power.writes == []


def test_keys_that_can_never_be_made_are_a_refusal() -> None:
    """Where waiting is of no use, nothing was touched and the node is not `locked`: there is no volume yet."""
    world = World()
    world.keys.make_rejected = {0}
    with pytest.raises(Refused, match="no SMBIOS UUID"):
        world.converge(wish(encrypted(node_id(0))))


@pytest.mark.parametrize("fault", ["down", "wrong"])
def test_a_key_that_does_not_prove_is_skipped_where_another_one_does(fault: str) -> None:
    """A slot whose key fails between writing and proof is a failed sync; the proven one carries the format."""
    world = World()
    if fault == "down":
        world.keys.recovers_before_down = {3: 1}
    else:
        world.keys.wrong_after = {3: 1}
    done = world.converge(wish(BOTH))
    assert set(skipped(done, ProveKey)) == {3}
    assert world.meta.facts().state_encryption == BOTH


@pytest.mark.parametrize("volume", [STATE, EPHEMERAL])
@pytest.mark.parametrize(("fault", "kind"), [("down", ProviderUnavailable), ("wrong", Locked)])
def test_without_a_proven_key_nothing_is_opened_or_followed(volume: str, fault: str, kind: type[LuksctlError]) -> None:
    """No proof: META keeps what it said, the volume stays unfinished, and the error shows why the key failed."""
    world = World()
    if fault == "down":
        world.keys.recovers_before_down = {3: 1}
    else:
        world.keys.wrong_after = {3: 1}
    with pytest.raises(kind, match=r"no configured key was proven: slot 3 \(kms key\)"):
        world.converge(wish(encrypted(kms(3)), volume))
    facts = world.meta.facts()
    assert not facts.has_tag9
    assert world.open_mapping is None
    intent = facts.record.intent(volume)
    assert intent is not None
    assert "no configured key was proven" in intent.last_error


def test_with_all_required_one_unproven_key_stops_the_format() -> None:
    """`formatRequires: all` holds for the proof of the written slot too."""
    world = World()
    world.keys.recovers_before_down = {3: 1}
    with pytest.raises(ProviderUnavailable, match="was proven"):
        world.converge(wish(BOTH, policy=ALL_KEYS))
    assert world.open_mapping is None


def test_a_token_is_read_back_from_the_medium_to_prove() -> None:
    """The proof uses what is in the header, not what is in memory: a lost token does not prove."""
    world = World()
    plan = world.look(wish(encrypted(static(0), kms(3)))).plan
    without = tuple(step for step in plan.steps if not isinstance(step, WriteToken))
    done = list(apply(replace(plan, steps=without), world.ports))
    assert skipped(done, ProveKey) == {3: "the slot has no token"}


def test_slots_are_tried_cheapest_first() -> None:
    """A slot with a random key costs less than one with a full passphrase KDF, whatever their numbers."""
    encryption = encrypted(static(0), static(1, b"another"), node_id(30))
    cheap = (("nodeID", CHEAPEST_KDF),)
    world = World()
    world.converge(wish(encryption, policy=EncryptionPolicy(kdf=KdfCost(4, 4096, 1), kdf_by_kind=cheap)))
    world.reboot()
    world.calls.clear()
    done = world.converge(wish(encryption))
    tried = [call for call in world.calls if call.startswith("volume_key")]
    assert set(tried) == {"volume_key 30"}
    opened = next(each for each in done if isinstance(each.step, OpenVolume))
    assert (opened.slot, opened.detail) == (30, "with slot 30 (nodeID)")


def test_a_kms_is_asked_after_all_that_needs_no_network() -> None:
    """However cheap its slot is: while it is dead, nobody waits for it whom another key lets in."""
    encryption = encrypted(kms(0), static(1), node_id(2))
    world = World()
    world.converge(wish(encryption, policy=EncryptionPolicy(kdf=KdfCost(4, 4096, 1))))
    world.reboot()
    world.keys.asked.clear()
    done = world.converge(wish(encryption))
    opened = next(each for each in done if isinstance(each.step, OpenVolume))
    assert opened.detail == "with slot 1 (static)"
    assert "kms 0" not in world.keys.asked


def test_a_dead_cheap_key_falls_back_to_the_next() -> None:
    """With the KMS down, the passphrase opens the volume, after the cheap slot was tried."""
    world = formatted()
    world.keys.recovers_before_down = {3: 0}
    done = world.converge(wish(BOTH))
    assert [each.slot for each in done if isinstance(each.step, OpenVolume)] == [0]


def test_rejected_keys_leave_it_locked_with_every_reason() -> None:
    """Wrong keys only: locked, each slot with its reason, the explanation of the provider included."""
    world = formatted(encrypted(static(0), node_id(1)))
    world.keys.wrong_after = {1: 0}
    world.keys.explain = {1: "the volume was formatted on another machine"}
    with pytest.raises(Locked) as caught:
        world.converge(wish(encrypted(static(0, b"another"), node_id(1), static(7))))
    text = str(caught.value)
    assert "slot 0 (static key): the key does not open this slot" in text
    assert "slot 1 (nodeID key): the volume was formatted on another machine" in text
    assert "slot 7 (static key): the header has no such keyslot" in text
    assert caught.value.volume == STATE
    assert world.power.writes == []


def test_one_unavailable_key_among_rejected_ones_is_worth_waiting_for() -> None:
    """If any key may come back, the error says retry, not locked."""
    world = formatted()
    world.keys.recovers_before_down = {3: 0}
    with pytest.raises(ProviderUnavailable, match="connection refused"):
        world.converge(wish(encrypted(static(0, b"another"), kms(3))))


def test_a_forged_kdf_in_one_slot_does_not_hide_the_others() -> None:
    """A slot whose costs are out of bounds is one failed key, and the next one opens."""
    world = formatted()
    world.fail["volume_key 3"] = KdfOutOfBounds("time 4294967295", errno=22)
    done = world.converge(wish(BOTH))
    assert [each.slot for each in done if isinstance(each.step, OpenVolume)] == [0]


def test_an_open_volume_proves_a_key_before_meta_follows() -> None:
    """No key of the new list opens STATE: META keeps the old list, byte for byte."""
    world = formatted()
    world.converge(wish(BOTH))
    writes = len(world.power.writes)
    following = replace(wish(encrypted(static(0, b"another"))), follow_in_meta=True, sync=True)
    with pytest.raises(Locked):
        world.converge(following)
    assert len(world.power.writes) == writes
    assert world.meta.facts().state_encryption == BOTH
    world.converge(replace(wish(encrypted(static(0))), follow_in_meta=True, sync=True))
    assert world.meta.facts().state_encryption == encrypted(static(0))


def test_meta_is_not_written_without_a_proof_in_the_same_run() -> None:
    """Tag 9 stays as it is where no key of the new list was proven, and the step says so."""
    world = formatted()
    (done,) = apply(Plan(STATE, (WriteStateEncryption(STATE, encrypted(static(9))),)), world.ports)
    assert done.skipped == "no key of the new list was proven on STATE in this run"
    assert world.power.writes == []


def test_a_keyslot_is_added_only_to_what_this_run_formatted() -> None:
    """Without the volume key of this run there is nothing to add a slot with."""
    world = formatted()
    plan = Plan(STATE, (MakeKey(STATE, static(5)), AddKeyslot(STATE, DEVICE, 5, KdfCost(4, 32, 1))))
    with pytest.raises(NotConverged):
        list(apply(plan, world.ports))
    assert world.power.writes == []


def test_proving_needs_a_header() -> None:
    """A header that is gone is an error of the device, not a wrong key."""
    with pytest.raises(DeviceError, match="no valid LUKS2 header"):
        list(apply(Plan(STATE, (ProveAnyKey(STATE, DEVICE, BOTH),)), World().ports))


def wishes_that_end() -> dict[str, tuple[World, DesiredVolume]]:
    """Return worlds and wishes whose runs end well, with an error, and with a cut."""
    failing, cut, locked = World(), World(), formatted()
    failing.fail["make_filesystem"] = DeviceError("mkfs.xfs ended with status 1")
    cut.power.cut_at = 14
    return {
        "format": (World(), wish(BOTH)),
        "open": (formatted(), wish(BOTH)),
        "failed mkfs": (failing, wish(BOTH)),
        "power cut": (cut, wish(BOTH)),
        "locked": (locked, wish(encrypted(static(0, b"another")))),
    }


@pytest.mark.parametrize("name", list(wishes_that_end()))
def test_every_secret_is_closed_when_the_run_ends(name: str) -> None:
    """Made keys, candidates and volume keys are wiped however the run ends; the config's own secrets are not."""
    world, desired = wishes_that_end()[name]
    before = open_secrets()
    with contextlib.suppress(LuksctlError, PowerCut):
        world.converge(desired)
    assert world.keys.handed_out
    assert open_secrets() == before


def open_secrets() -> set[int]:
    """Return the identities of all secrets in memory that are not closed."""
    return {id(each) for each in gc.get_objects() if isinstance(each, Secret) and not each.closed}


def test_a_run_that_nobody_finishes_closes_its_secrets() -> None:
    """A caller that stops iterating and closes the run leaves no key in memory."""
    world = World()
    run = apply(world.look(wish(BOTH)).plan, world.ports)
    next(run)
    assert world.keys.left_open() > 0
    run.close()  # type: ignore[attr-defined]  # apply is a generator
    assert world.keys.left_open() == 0


def test_no_key_shows_in_steps_errors_meta_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    """The passphrase is in no Done, no repr, no error and not in the intent that META keeps."""
    caplog.set_level(logging.DEBUG)
    world = World()
    world.fail["make_filesystem"] = DeviceError("mkfs.xfs ended with status 1")
    desired = wish(encrypted(static(0, MARKER)))
    seen: list[str] = [repr(desired), repr(world.look(desired))]
    run = converge(desired, SETTINGS, world.ports)
    with pytest.raises(DeviceError) as caught:
        seen.extend(repr(done) for done in run)
    seen += [str(caught.value), repr(caught.value), json.dumps(caught.value.fields())]
    assert len(seen) > 10
    seen += [repr(world.meta.facts()), str(world.meta.facts().record), caplog.text]
    assert all(shown_in(text) == [] for text in seen)
