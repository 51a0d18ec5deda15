"""A volume gets a new volume key on real headers: what is refused before a byte is written, and what goes on after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device as LuksDevice
from luksctl.cryptsetup.reencryption import ReencryptParameters
from luksctl.errors import Degraded, ReencryptionRunning, Refused
from luksctl.model.bookkeeping import Bookkeeping, Purpose, SlotNote
from luksctl.model.config import CHEAPEST_KDF, KeyKind
from luksctl.model.header import Keyslot, LuksHeader, Token
from luksctl.model.intent import MovedSlot, SlotRole
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.model.step import AddKeyslot, RemoveKeyslot, Step, WriteToken
from luksctl.node.attempts import drop_intent
from luksctl.reconcile.converge import Session, converge
from luksctl.reconcile.keyring import Keyring
from luksctl.reconcile.plan_reencrypt import HeldSlot, budget, bytes_done, held_slots, moves, new_books
from luksctl.secret import Secret
from luksctl.value import replace
from tests.faults import reencryptions
from tests.faults.reencryptions import HOW, KEYS, formatted, go_on, next_boot, session_of, start
from tests.faults.running import Running
from tests.faults.tpm_sealings import TpmNode
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, static
from tests.reconcile.stage import assert_in_sync, header_of, secret_of

UNMANAGED = b"somebody else's"


class Stopped(Exception):
    """The run was stopped on purpose."""


def stop_after(directory: Path, done_bytes: int) -> None:
    """Go on until so many bytes are done, and stop there."""

    def progress(done: int, _total: int) -> None:
        if done >= done_bytes:
            raise Stopped

    node = TpmNode(directory)
    with pytest.raises(Stopped), session_of(node, progress=progress) as running:
        list(running.go_on())


def stage_of(node: Node) -> ReencryptStage | None:
    observed = node.observe()
    assert isinstance(observed, Luks2)
    return observed.reencrypt_stage


def test_keys_are_back_at_their_numbers_and_data_is_equal(tmp_path: Path) -> None:
    """From the announcement to the end: the same data under another volume key, and nothing left of the way there."""
    formatted(tmp_path)
    reencryptions.renew(tmp_path)
    node = TpmNode(tmp_path)
    assert_in_sync(node, KEYS)
    reencryptions.expect_data(node)
    assert not reencryptions.old_key_opens(tmp_path, node)
    assert sorted(token.type for token in header_of(node).tokens) == ["luksctl", "sideroKMS", "talos-tpm2"]
    assert node.facts().record.intents == ()


def test_stopped_half_way_it_opens_and_goes_on(tmp_path: Path) -> None:
    """Half of the data done, a boot opens it by any key, tells how far it is, and the next run ends it."""
    formatted(tmp_path)
    start(tmp_path)
    stop_after(tmp_path, 2 << 20)
    node = TpmNode(tmp_path)
    observed = node.observe()
    assert isinstance(observed, Luks2)
    done, total = bytes_done(observed)
    assert 2 << 20 <= done < total == 4 << 20
    next_boot(tmp_path)


def test_stopped_after_any_step_it_goes_on(tmp_path: Path) -> None:
    """A key whose number is free may be in its keyslot already, and what recovers it not in its token yet."""
    (there := tmp_path / "node").mkdir()
    formatted(there)
    start(there)
    stopped: list[tuple[type[Step], Path]] = []
    with session_of(TpmNode(there)) as running:
        for done in running.go_on():
            kept = tmp_path / str(len(stopped))
            shutil.copytree(there, kept)
            stopped.append((type(done.step), kept))
    assert {AddKeyslot, WriteToken, RemoveKeyslot} < {step for step, _ in stopped}
    for _, kept in stopped:
        shutil.copytree(kept, there, dirs_exist_ok=True)
        next_boot(there)


def test_what_somebody_else_put_at_a_free_number_is_left(tmp_path: Path) -> None:
    """It has no token, as what a cut left; it was not announced, so it is theirs, and what it holds up is said."""
    formatted(tmp_path)
    start(tmp_path)
    node = TpmNode(tmp_path)
    with session_of(node) as running:
        next(running.go_on())
    (spare,) = {slot.new for slot in _moved(node) if slot.old == KEYS.keys[0].slot}
    (theirs,) = {key.slot for key in KEYS.keys if key.kind is KeyKind.TPM}
    with (
        reencryptions.volume_key(node, replace(KEYS.keys[0], slot=spare)) as volume_key,
        Secret.take(UNMANAGED) as key,
        LuksDevice.open(str(node.state)) as luks,
    ):
        luks.keyslots.add_by_volume_key(theirs, key, volume_key, CHEAPEST_KDF)
    with pytest.raises(Degraded, match=f"slot {theirs}: the keyslot is in use, and luksctl did not make it"):
        go_on(tmp_path)
    with LuksDevice.open(str(node.state)) as luks:
        with Secret.take(UNMANAGED) as key:
            assert luks.test_key(key) == theirs
        luks.keyslots.destroy(theirs)
    next_boot(tmp_path)


def test_everybody_else_is_told_to_wait(tmp_path: Path) -> None:
    """A sync and a second re-encryption are refused as running, and write nothing."""
    formatted(tmp_path)
    start(tmp_path)
    node = TpmNode(tmp_path)
    before = node.bytes_on_disk()
    with Keyring("STATE") as keyring, pytest.raises(ReencryptionRunning):
        list(Session(cheap_wish(KEYS), node.volume_settings, node.ports, keyring).sync())
    with session_of(node) as running, pytest.raises(ReencryptionRunning):
        list(running.unlock())
    assert node.bytes_on_disk() == before


def test_what_did_not_start_is_taken_back(tmp_path: Path) -> None:
    """A recovery key that could not be handed out ends it: the header is as before, but for its sequence."""
    formatted(tmp_path)
    node = TpmNode(tmp_path)
    before = header_of(node)

    def fail(_: object) -> None:
        raise Stopped

    with session_of(node) as running:
        list(running.unlock())
        held = running.held()
        assert running.carry_configured(held, ()) == {}
        with pytest.raises(Stopped):
            list(running.begin(held, HOW, fail))
    after = header_of(node)
    assert (after.keyslots, {token.number for token in after.tokens}) == (
        before.keyslots,
        {token.number for token in before.tokens},
    )
    assert node.facts().record.intents == ()
    assert_in_sync(node, KEYS)


def test_an_unmanaged_key_is_asked_for_and_stays_unmanaged(tmp_path: Path) -> None:
    """Given, it opens the new volume key at another number; not given, its slot is gone."""
    formatted(tmp_path)
    node = TpmNode(tmp_path)
    with (
        reencryptions.volume_key(node, KEYS.keys[0]) as volume_key,
        Secret.take(UNMANAGED) as key,
        LuksDevice.open(str(node.state)) as luks,
    ):
        luks.keyslots.add_by_volume_key(9, key, volume_key, CHEAPEST_KDF)
    with session_of(node) as running, Secret.take(UNMANAGED) as key:
        list(running.unlock())
        held = running.held()
        assert HeldSlot(9, SlotRole.UNMANAGED) in held
        running.carry_configured(held, ())
        running.carry(9, key)
        list(running.begin(held, HOW, lambda _: None))
    go_on(tmp_path)
    (other,) = {slot.number for slot in header_of(node).keyslots} - {key.slot for key in KEYS.keys}
    assert other > 9
    with Secret.take(UNMANAGED) as key, LuksDevice.open(str(node.state)) as luks:
        assert luks.test_key(key) == other


def test_a_slot_that_nobody_carried_is_gone(tmp_path: Path) -> None:
    """A configured key that was given up is made anew by the sync at the end."""
    formatted(tmp_path)
    node = TpmNode(tmp_path)
    with session_of(node) as running:
        list(running.unlock())
        held = running.held()
        assert running.carry_configured(held, (4,)) == {}
        list(running.begin(held, HOW, lambda _: None))
    assert [slot.old for slot in _moved(node)] == [0, 7]
    next_boot(tmp_path)


def test_metadata_of_others_is_not_opened(tmp_path: Path) -> None:
    """A re-encryption that META does not announce may be forged: the volume stays closed, and nothing is written."""
    formatted(tmp_path)
    node = TpmNode(tmp_path)
    with (
        Secret.random(64) as new_key,
        Secret.take(secret_of(node, KEYS.keys[0])) as key,
        LuksDevice.open(str(node.state)) as luks,
    ):
        luks.keyslots.add_unbound(1, key, new_key, CHEAPEST_KDF)
        luks.reencryption.start(ReencryptParameters("aes-xts-plain64", 4096), key, old_slot=0, new_slot=1)
    before = node.bytes_on_disk()
    with pytest.raises(Refused, match="META does not say"):
        list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))
    assert node.bytes_on_disk() == before


def test_an_announcement_for_another_header_opens_nothing(tmp_path: Path) -> None:
    """META speaks for the header that it names, and for no other one that lies there since."""
    formatted(tmp_path)
    start(tmp_path)
    node = TpmNode(tmp_path)
    (intent,) = node.facts().record.reencryptions
    other = replace(intent, header_uuid="00000000-0000-4000-8000-000000000000")
    node.ports.meta.update_record(lambda record: record.with_intent(other))
    with pytest.raises(Refused, match="which is not here"):
        list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))


def test_a_changed_segment_is_not_taken_over(tmp_path: Path) -> None:
    """What luksctl ends itself has the cipher that was announced: a forged one is refused, and nothing is written."""
    formatted(tmp_path)
    start(tmp_path)
    node = TpmNode(tmp_path)
    (intent,) = node.facts().record.reencryptions
    device = reencryptions.device_of(node)
    with pytest.raises(Refused, match="old volume key"):
        node.ports.headers.end_reencryption(device, intent)
    before = node.bytes_on_disk()
    with pytest.raises(Refused):
        node.ports.headers.end_reencryption(device, replace(intent, cipher="cipher_null-ecb"))
    assert node.bytes_on_disk() == before


def test_its_announcement_cannot_be_dropped(tmp_path: Path) -> None:
    """Without it the volume would not be opened any more, whatever keys there are."""
    formatted(tmp_path)
    start(tmp_path)
    node = Running(tmp_path).node
    with pytest.raises(Refused, match="would not be opened"):
        drop_intent(node, "STATE")
    assert node.ports.meta.load().record.reencryptions


# ---- pure -----------------------------------------------------------------------------------------------------------


def _moved(node: Node) -> tuple[MovedSlot, ...]:
    (intent,) = node.facts().record.reencryptions
    return intent.moved


def _header(slots: range, tokens: tuple[Token, ...] = ()) -> LuksHeader:
    keyslots = tuple(Keyslot(number, "argon2id", 4, 32, 1, None, "aes-xts-plain64") for number in slots)
    return LuksHeader("u", "", "", 1, 0x4000, keyslots, tokens, (), 1000, (), (), json.dumps({}))


def test_fifteen_keys_are_the_most() -> None:
    """Two keyslots for each key, and one of the library's own: 31 of 32; a sixteenth is refused before anything."""
    fifteen = encrypted(*(static(number) for number in range(15)))
    held = tuple(HeldSlot(number, SlotRole.CONFIG) for number in range(15))
    found = moves(_header(range(15)), held, fifteen)
    assert len({slot.new for slot in found} | set(range(15))) == 30
    with pytest.raises(Refused, match="at most 15"):
        moves(_header(range(16)), (*held, HeldSlot(15, SlotRole.UNMANAGED)), fifteen)


def test_an_unfinished_change_comes_first() -> None:
    """A spare, or a slot that the config dropped, is what a sync ends: nothing is carried over meanwhile."""
    header = _header(range(2))
    with pytest.raises(Refused, match="not finished"):
        held_slots(header, Bookkeeping().with_underway(1, 0), encrypted(static(0)))
    dropped = Bookkeeping(notes=(SlotNote(1, Purpose.CONFIG, 0),))
    with pytest.raises(Refused, match="not finished"):
        held_slots(header, dropped, encrypted(static(0)))


def test_bookkeeping_of_the_new_key_says_whose_the_spares_are() -> None:
    """Configured keys are spares of their numbers, a recovery key is noted where it stays, others are not ours."""
    moved = (
        MovedSlot(31, 9, SlotRole.RECOVERY),
        MovedSlot(30, 0),
        MovedSlot(29, 12, SlotRole.UNMANAGED),
    )
    before = Bookkeeping(7, (SlotNote(0, Purpose.CONFIG, 1), SlotNote(9, Purpose.RECOVERY, 2)))
    found = new_books(before, moved, 5)
    assert (found.counter, found.spares_of(0)) == (8, (30,))
    assert found.notes == (SlotNote(31, Purpose.RECOVERY, 2),)
    assert not found.knows(29)


def test_room_for_the_json_is_reckoned_before_anything_is_written() -> None:
    """A header whose area is nearly full is refused; libcryptsetup would find out in the middle of it."""
    moved = tuple(MovedSlot(16 + number, number) for number in range(3))
    assert budget(_header(range(3)), moved, new_books(Bookkeeping(), moved, 0)).fits
    full = replace(_header(range(3)), json=json.dumps({"tokens": "x" * 9000}))
    assert not budget(full, moved, new_books(Bookkeeping(), moved, 0)).fits
