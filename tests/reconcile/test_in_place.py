"""A plain volume is encrypted in place: all its data is there afterwards, and what cannot be is refused untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.errors import AttemptsExhausted, LuksctlError, NotBlank, Refused
from luksctl.model.config import VolumeEncryption
from luksctl.model.intent import InPlaceIntent, InPlacePhase
from luksctl.model.observed import Encrypting, FilesystemFound, Luks2
from luksctl.model.step import Done
from luksctl.reconcile.converge import session
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.plain import (
    PLAIN_BYTES,
    TAIL_BYTES,
    assert_holds,
    debugfs,
    decrypted,
    files_of,
    how_far_it_comes,
    in_place_wish,
    plain_ext4,
    plain_xfs,
    run_to_its_end,
)
from tests.reconcile.providers import encrypted, node_id, static
from tests.reconcile.rotations import OLD

KEYS = encrypted(static(0, OLD), node_id(4))


def begin(node: Node, keys: VolumeEncryption = KEYS) -> list[Done]:
    """Encrypt in place up to where the header is placed, and return the steps."""
    with session(in_place_wish(keys, node.state.parent), node.volume_settings, node.ports) as running:
        refusal = running.look().plan.refusal
        if refusal is not None:
            raise refusal
        return list(running.work_in_place())


def names(steps: list[Done]) -> list[str]:
    """Return the names of the steps."""
    return [type(done.step).__name__ for done in steps]


@pytest.mark.parametrize("share", [0.3, 0.94])
def test_an_ext4_with_free_space_behind_it_keeps_its_data(tmp_path: Path, share: float) -> None:
    """What was on it is what it decrypts to, the keys have their numbers, and META expects it to be encrypted."""
    node = plain_ext4(tmp_path, full=share)
    before = node.state.read_bytes()[: PLAIN_BYTES - TAIL_BYTES]
    steps = begin(node)
    assert names(steps)[-1] == "ConcludePlacement"
    found = node.observe()
    assert isinstance(found, Luks2)
    assert found.header.reencrypting
    assert {slot.number for slot in found.header.keyslots if slot.type == "luks2"} == {0, 4}
    assert node.facts().record.encrypted == ("STATE",)
    run_to_its_end(node, in_place_wish(KEYS))
    assert_holds(node, OLD, before)
    assert node.facts().record.intents == ()
    document = json.loads(node.ports.disks.header_copies(found.device).best.json)  # type: ignore[union-attr]
    assert list(document["segments"]) == ["0"]
    assert document["segments"]["0"]["offset"] == str(16 * MIB)


def test_how_far_it_is_is_told_by_the_header(tmp_path: Path) -> None:
    """From nothing of the data to all of it, and never back."""
    node = plain_ext4(tmp_path)
    begin(node)
    told = how_far_it_comes(node, in_place_wish(KEYS))
    assert told == sorted(told)
    assert told[0] == (0, PLAIN_BYTES - TAIL_BYTES)
    done, total = told[-1]
    assert done == total


def test_a_full_ext4_is_shrunk(tmp_path: Path) -> None:
    """It is made to end 32 MiB before the device does, and every file on it is as before."""
    node = plain_ext4(tmp_path, filesystem_bytes=PLAIN_BYTES, full=0.4)
    digests = files_of(node.state)
    steps = begin(node)
    assert (
        next(done.detail for done in steps if type(done.step).__name__ == "MakeRoom") == "shrunk from 80 MiB to 48 MiB"
    )
    assert node.state.stat().st_size == PLAIN_BYTES
    run_to_its_end(node, in_place_wish(KEYS))
    with Device.open(str(node.state)) as luks, Secret.take(OLD) as key, luks.volume_key(key, slot=0) as volume_key:
        (tmp_path / "plain").write_bytes(decrypted(node, volume_key, PLAIN_BYTES - TAIL_BYTES))
    assert files_of(tmp_path / "plain") == digests


def test_a_full_ext4_is_refused_where_nothing_can_be_kept(tmp_path: Path) -> None:
    """What shrinking overwrites has to outlast a cut, so without STATE neither volume nor META is written to."""
    node = plain_ext4(tmp_path, filesystem_bytes=PLAIN_BYTES, full=0.4)
    before = node.bytes_on_disk()
    with (
        pytest.raises(Refused, match="kept on STATE meanwhile"),
        session(in_place_wish(KEYS), node.volume_settings, node.ports) as running,
    ):
        list(running.work_in_place())
    assert node.bytes_on_disk() == before


def test_an_xfs_that_leaves_room_keeps_its_data(tmp_path: Path) -> None:
    """As luksctl makes it: with 32 MiB free at the end of the device."""
    node = plain_xfs(tmp_path)
    before = node.state.read_bytes()[: 24 * MIB]
    begin(node)
    run_to_its_end(node, in_place_wish(KEYS))
    assert_holds(node, OLD, before)


def test_an_xfs_without_room_is_refused_untouched(tmp_path: Path) -> None:
    """Neither it nor META is written to, and the way over a backup is named."""
    node = plain_xfs(tmp_path, size_bytes=310 * MIB)
    before = node.bytes_on_disk()
    with pytest.raises(Refused, match="leaves no room for a header") as refusal:
        begin(node)
    assert "restore" in (refusal.value.hint or "")
    assert node.bytes_on_disk() == before


def test_an_ext4_too_full_to_be_shrunk_is_refused_untouched(tmp_path: Path) -> None:
    """Neither it nor META is written to."""
    node = plain_ext4(tmp_path, filesystem_bytes=PLAIN_BYTES, full=0.8)
    before = node.bytes_on_disk()
    with pytest.raises(Refused, match="too full to be shrunk"):
        begin(node)
    assert node.bytes_on_disk() == before


def test_a_damaged_filesystem_is_refused_untouched(tmp_path: Path) -> None:
    """Its own program finds what is wrong, before anything is announced."""
    node = plain_ext4(tmp_path)
    damage(node.state)
    before = node.bytes_on_disk()
    with pytest.raises(Refused, match="is not sound"):
        begin(node)
    assert node.bytes_on_disk() == before


def test_without_the_policy_it_is_refused_with_the_command(tmp_path: Path) -> None:
    """A config that wants it encrypted is not enough."""
    node = plain_ext4(tmp_path)
    plan = node_plan(node, cheap=True)
    assert isinstance(plan, NotBlank)
    assert "luksctl reset --system-labels-to-wipe STATE" in (plan.hint or "")
    with session(replace(cheap_wish(KEYS), volume="EPHEMERAL"), node.volume_settings, node.ports) as running:
        refusal = running.look().plan.refusal
    assert refusal is not None
    assert "luksctl encrypt EPHEMERAL --in-place" in (refusal.hint or "")


def test_a_volume_that_was_encrypted_before_is_never_taken_for_the_plain_one(tmp_path: Path) -> None:
    """Whoever put a filesystem in its place does not get it filled with the node's data."""
    node = plain_ext4(tmp_path)
    node.ports.meta.update_record(lambda record: replace(record, encrypted=("STATE",)))
    refusal = node_plan(node, cheap=False)
    assert isinstance(refusal, Refused)
    assert "expects an encrypted volume" in refusal.cause


def test_what_is_announced_is_no_plain_filesystem(tmp_path: Path) -> None:
    """From the announcement on, nothing mounts it as it is, whatever is seen at its head."""
    node = plain_ext4(tmp_path)
    assert isinstance(node.observe(), FilesystemFound)
    intent = InPlaceIntent("STATE", str(node.state), "9c8f3a56-0f0c-4a5e-8a53-1d2c2b7b6a11")
    node.ports.meta.update_record(lambda record: record.with_intent(intent))
    assert isinstance(node.observe(), Encrypting)


def test_the_head_is_taken_back_from_the_end(tmp_path: Path) -> None:
    """A header of which no copy is whole is none: the same bytes as before stand at the head, and it begins anew."""
    node = plain_ext4(tmp_path)
    before = node.state.read_bytes()
    until_placing(node)
    with node.state.open("r+b") as target:
        target.seek(32 * 1024)
        target.write(b"\xaa" * (9 * MIB))
    steps = begin(node)
    assert names(steps)[0] == "RestoreHead"
    assert "taken back" in steps[0].detail
    run_to_its_end(node, in_place_wish(KEYS))
    assert_holds(node, OLD, before[: PLAIN_BYTES - TAIL_BYTES])


def test_a_copy_of_the_head_that_is_another_one_is_not_taken(tmp_path: Path) -> None:
    """Where neither is what META says, nothing is written, and a person has to look."""
    node = plain_ext4(tmp_path)
    until_placing(node)
    with node.state.open("r+b") as target:
        target.write(b"\xaa" * MIB)
        target.seek(PLAIN_BYTES - MIB)
        target.write(b"\xaa" * MIB)
    before = node.bytes_on_disk()
    with pytest.raises(Refused, match="neither the head"):
        begin(node)
    assert node.bytes_on_disk()[0] == before[0]


def test_the_fourth_attempt_is_refused_with_the_filesystem_whole(tmp_path: Path) -> None:
    """The head is back before it is said that it failed too often."""
    node = plain_ext4(tmp_path)
    before = node.state.read_bytes()
    until_placing(node, attempt=3)
    with node.state.open("r+b") as target:
        target.write(bytes(MIB))
    with pytest.raises(AttemptsExhausted, match="its filesystem is whole"):
        begin(node)
    assert node.state.read_bytes()[: PLAIN_BYTES - TAIL_BYTES] == before[: PLAIN_BYTES - TAIL_BYTES]


def test_no_header_is_left_in_memory(tmp_path: Path) -> None:
    """The file that the header was made in is gone once it is placed."""
    node = plain_ext4(tmp_path)
    begin(node)
    assert not list(tmp_path.rglob("*.header"))


# ---- how it is done -------------------------------------------------------------------------------------------------


def node_plan(node: Node, *, cheap: bool) -> LuksctlError | None:
    """Return why the plan is refused."""
    with session(cheap_wish(KEYS) if cheap else in_place_wish(KEYS), node.volume_settings, node.ports) as running:
        return running.look().plan.refusal


def until_placing(node: Node, attempt: int = 1) -> None:
    """Go as far as META's saying where the head is, and no further."""
    with session(in_place_wish(KEYS), node.volume_settings, node.ports) as running:
        for done in running.work_in_place():
            if type(done.step).__name__ == "MoveHead":
                break
    (intent,) = node.facts().record.intents
    assert isinstance(intent, InPlaceIntent)
    assert intent.phase is InPlacePhase.PLACING
    node.ports.meta.update_record(lambda record: record.with_intent(replace(intent, attempt=attempt)))


def damage(state: Path) -> None:
    """Free an inode that is in use."""
    debugfs(state, "clri <13>", write=True)
