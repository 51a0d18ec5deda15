"""Recovery keys on a node: what STATE remembers of them, what status is to warn of, and opening by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from luksctl.errors import Degraded, Locked, Refused
from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.header import LuksHeader
from luksctl.model.meta import MetaFacts, MetaState
from luksctl.model.ports import Activation
from luksctl.model.probe import Device
from luksctl.model.step import Done
from luksctl.node.recovery import (
    Place,
    add_recovery_key,
    luks2,
    recovery_keys,
    remove_recovery_key,
    verify_recovery_key,
)
from luksctl.node.recovery_listing import recovery_warnings
from luksctl.node.recovery_record import FILE_NAME
from luksctl.node.report import VolumeState, read_report
from luksctl.node.status import node_status
from luksctl.node.sync import adopt
from luksctl.node.unlock import open_already, unlock
from luksctl.reconcile.recovery import RecoverySession
from luksctl.secret import Secret
from luksctl.value import replace
from tests.node.image_node import ImageNode, document, static
from tests.providers.stock import opens

OPTIONS = "  options: [no_read_workqueue]\n"


@pytest.fixture
def image(tmp_path: Path) -> ImageNode:
    """Return a running node whose volumes are ours."""
    found = ImageNode(tmp_path)
    found.configure(document(STATE, static(0, "one")), document(EPHEMERAL, static(0, "one")) + OPTIONS)
    for volume in (STATE, EPHEMERAL):
        found.format(volume, {0: "one"})
        adopt(found.node, volume)
    return found


class Sheet:
    """Remembers what was handed out, as somebody with a pencil."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.texts: list[bytes] = []

    def __call__(self, place: Place, key: Secret) -> None:
        """Write it down."""
        self.places.append(place)
        with key.view() as view:
            self.texts.append(bytes(view))

    @property
    def key(self) -> Secret:
        """Return the last key."""
        return Secret.take(self.texts[-1])


@pytest.fixture
def sheet(image: ImageNode) -> Sheet:
    """Return the sheet with a recovery key of EPHEMERAL."""
    found = Sheet()
    add_recovery_key(image.node, EPHEMERAL, found)
    return found


def header(image: ImageNode, volume: str = EPHEMERAL) -> LuksHeader:
    """Return the header of a volume."""
    return luks2(image.node, volume).header


def test_status_warns_until_it_was_verified_once(image: ImageNode, sheet: Sheet) -> None:
    """The one that stays unproven is named, with what to type."""
    (warning,) = recovery_warnings(image.node, EPHEMERAL, header(image))
    (shown,) = node_status(image.node, (EPHEMERAL,)).volumes
    assert shown.warnings == (warning,)
    assert warning == "slot 30 (recovery) was never verified (luksctl recovery verify EPHEMERAL)"
    assert recovery_warnings(image.node, STATE, header(image, STATE)) == ()
    with sheet.key as key:
        proof = verify_recovery_key(image.node, EPHEMERAL, key, clock=lambda: 1_800_000_000.5)
    assert (proof.slot, proof.listed, proof.kept) == (30, True, str(image.state / FILE_NAME))
    assert recovery_warnings(image.node, EPHEMERAL, header(image)) == ()
    (listed,) = recovery_keys(image.node, EPHEMERAL)
    assert (listed.slot, listed.present, listed.verified_at) == (30, True, "2027-01-15T08:00:00Z")


def test_the_record_holds_no_secret_and_is_the_owners(image: ImageNode, sheet: Sheet) -> None:
    """It lies in STATE, whole or not at all."""
    with sheet.key as key:
        verify_recovery_key(image.node, EPHEMERAL, key)
    path = image.state / FILE_NAME
    (entry,) = json.loads(path.read_bytes())["verified"]
    assert set(entry) == {"volume", "headerUUID", "slot", "digest", "verifiedAt"}
    assert entry["headerUUID"] == header(image).uuid
    assert sheet.texts[0] not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_key_in_the_same_slot_counts_as_never_verified(image: ImageNode, sheet: Sheet) -> None:
    """The number says nothing: the record is about the very slot that was opened."""
    with sheet.key as key:
        verify_recovery_key(image.node, EPHEMERAL, key)
    remove_recovery_key(image.node, EPHEMERAL, 30)
    again = Sheet()
    add_recovery_key(image.node, EPHEMERAL, again)
    assert again.places == sheet.places
    assert len(recovery_warnings(image.node, EPHEMERAL, header(image))) == 1
    with again.key as key:
        verify_recovery_key(image.node, EPHEMERAL, key)
    assert len(json.loads((image.state / FILE_NAME).read_bytes())["verified"]) == 1


@pytest.mark.parametrize("text", [b"", b"[", b"null", b'{"version": 1}', b'{"version": 1, "verified": [{}]}', b"\xff"])
def test_a_record_that_cannot_be_understood_costs_a_warning(image: ImageNode, sheet: Sheet, text: bytes) -> None:
    """And is replaced by the next proof."""
    (image.state / FILE_NAME).write_bytes(text)
    assert len(recovery_warnings(image.node, EPHEMERAL, header(image))) == 1
    with sheet.key as key:
        verify_recovery_key(image.node, EPHEMERAL, key)
    assert recovery_warnings(image.node, EPHEMERAL, header(image)) == ()


def test_a_state_that_takes_no_file_does_not_spoil_the_proof(image: ImageNode, sheet: Sheet) -> None:
    """It is said that it was not noted."""
    (image.state / FILE_NAME).mkdir()
    with sheet.key as key:
        proof = verify_recovery_key(image.node, EPHEMERAL, key)
    assert (proof.slot, proof.kept) == (30, None)
    assert "takes no file" in (proof.not_kept or "")


def test_without_state_nothing_is_known_and_nothing_is_claimed(image: ImageNode, sheet: Sheet) -> None:
    """Who was verified stands in STATE."""
    image.system.mounts.clear()
    assert recovery_warnings(image.node, EPHEMERAL, header(image)) == ()
    with sheet.key as key:
        assert verify_recovery_key(image.node, EPHEMERAL, key).not_kept == "STATE is not mounted"


def test_a_slot_that_another_tool_removed_is_told(image: ImageNode, sheet: Sheet) -> None:
    """It is still listed, as gone."""
    with sheet.key as key:
        found = luks2(image.node, EPHEMERAL)
        image.node.ports.headers.remove_keyslot(found.device, 30)
        with pytest.raises(Locked, match="opens none of its keyslots"):
            verify_recovery_key(image.node, EPHEMERAL, key)
    (warning,) = recovery_warnings(image.node, EPHEMERAL, header(image))
    assert "was removed by another tool" in warning
    assert [entry.present for entry in recovery_keys(image.node, EPHEMERAL)] == [False]


def test_lost_bookkeeping_does_not_lock_it_out(image: ImageNode, sheet: Sheet) -> None:
    """Every slot is tried, and the answer says that the header does not list this one."""
    found = luks2(image.node, EPHEMERAL)
    for token in found.header.tokens:
        image.node.ports.headers.remove_token(found.device, token.number)
    with sheet.key as key:
        proof = verify_recovery_key(image.node, EPHEMERAL, key)
    assert (proof.slot, proof.listed) == (30, False)


def with_device_mapper(image: ImageNode) -> list[Activation]:
    """Make up what activating does, once the volume key was checked against the header; return what was asked for."""
    asked: list[Activation] = []

    def activate(device: Device, mapped_name: str, volume_key: Secret, how: Activation) -> None:
        assert device.path == os.path.realpath(image.images[EPHEMERAL])
        assert len(volume_key) == 64
        asked.append(how)
        image.open(mapped_name.removeprefix("luks2-"))

    vars(image.node.ports.headers)["activate"] = activate
    return asked


def test_it_opens_by_hand_as_a_boot_would(image: ImageNode, sheet: Sheet) -> None:
    """The same name, the same options, the link that its mount unit mounts from; the report says what opened it."""
    asked = with_device_mapper(image)
    before = image.bytes_of(EPHEMERAL)
    with sheet.key as key:
        unlocked = unlock(image.node, EPHEMERAL, key)
    assert [how.options for how in asked] == [("no_read_workqueue",)]
    assert not unlocked.already
    assert os.readlink(image.paths.volume_link(EPHEMERAL)) == "/dev/mapper/luks2-EPHEMERAL"
    report = read_report(image.node, EPHEMERAL)
    assert report == unlocked.report
    assert report is not None
    assert (report.state, report.opened_by) == (VolumeState.OPEN, "with the recovery key, slot 30")
    assert image.bytes_of(EPHEMERAL) == before
    again = open_already(image.node, EPHEMERAL)
    assert again is not None
    assert again.already


def test_it_opens_with_nothing_else_left(image: ImageNode, sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config, no bookkeeping, and a META of which both copies are bad."""
    (image.state / "config.yaml").unlink()
    found = luks2(image.node, EPHEMERAL)
    image.node.ports.headers.remove_token(found.device, 31)
    unreadable = MetaFacts(MetaState.UNREADABLE, problem="both copies are bad")
    monkeypatch.setattr(image.node.ports.meta, "load", lambda: unreadable)
    asked = with_device_mapper(image)
    with sheet.key as key:
        unlock(image.node, EPHEMERAL, key)
    assert [how.options for how in asked] == [()]


def test_a_key_of_another_volume_opens_nothing(image: ImageNode, sheet: Sheet) -> None:
    """Locked, with what to look at; nothing is published."""
    asked = with_device_mapper(image)
    with sheet.key as key, pytest.raises(Locked, match="opens none of its keyslots") as caught:
        unlock(image.node, STATE, key)
    assert "recovery list STATE" in (caught.value.hint or "")
    assert asked == []
    assert read_report(image.node, STATE) is None


def test_a_blank_volume_is_not_formatted_by_hand(tmp_path: Path) -> None:
    """A recovery key only opens what is there."""
    blank = ImageNode(tmp_path)
    before = blank.bytes_of()
    with pytest.raises(Refused, match="only opens what is there"), Secret.take(b"any") as key:
        unlock(blank.node, EPHEMERAL, key)
    assert blank.bytes_of() == before


def test_the_config_that_locked_it_out_can_be_left_behind(image: ImageNode, sheet: Sheet) -> None:
    """Every other slot destroyed by hand: the sheet is the last way in, also for the stock tool."""
    found = luks2(image.node, EPHEMERAL)
    image.node.ports.headers.remove_keyslot(found.device, 0)
    assert opens(image.images[EPHEMERAL], sheet.texts[0])
    with pytest.raises(Locked):
        remove_recovery_key(image.node, EPHEMERAL, 30)
    assert opens(image.images[EPHEMERAL], sheet.texts[0])


def test_handing_out_fails_and_the_volume_is_as_before(image: ImageNode) -> None:
    """The slots are those from before, and so are the notes."""

    def fail(place: Place, key: Secret) -> None:
        raise KeyboardInterrupt(place.slot, len(key))

    notes = [entry.slot for entry in recovery_keys(image.node, EPHEMERAL)]
    with pytest.raises(KeyboardInterrupt):
        add_recovery_key(image.node, EPHEMERAL, fail)
    assert [slot.number for slot in header(image).keyslots] == [0]
    assert [entry.slot for entry in recovery_keys(image.node, EPHEMERAL)] == notes == []


def test_without_a_config_none_is_added(image: ImageNode) -> None:
    """What opens by hand without a config cannot be added without one: its keys are needed."""
    (image.state / "config.yaml").unlink()
    with pytest.raises(Locked, match="no machine config"):
        add_recovery_key(image.node, EPHEMERAL, Sheet())


def test_a_key_that_cannot_be_taken_back_is_named(image: ImageNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stopped the handing out stays the error; that the slot is still there is told, with what to type."""
    told: list[str] = []

    def fail(_: object, slot: int) -> Iterator[Done]:
        raise Degraded("the keyslot is still there", volume=EPHEMERAL, slot=slot)

    def show(place: object, key: Secret) -> None:  # noqa: ARG001  # nobody gets it
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(RecoverySession, "remove", fail)
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        add_recovery_key(replace(image.node, tell=told.append), EPHEMERAL, show)
    assert any("luksctl recovery remove EPHEMERAL --slot 30" in line for line in told)
