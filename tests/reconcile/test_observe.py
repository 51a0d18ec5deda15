"""What is on a device: every branch from raw facts (copies, signature, zeros, holders, META) to one of the answers."""

from __future__ import annotations

import pytest

from luksctl.model.config import STATE
from luksctl.model.header import Copies, LuksHeader
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import NodeRecord
from luksctl.model.observed import (
    Ambiguous,
    Blank,
    Damaged,
    FilesystemFound,
    Foreign,
    Luks2,
    Missing,
    Unfinished,
)
from luksctl.model.probe import Device, Signature
from luksctl.units import MIB
from luksctl.value import replace
from tests.reconcile.medium import TORN, Torn
from tests.reconcile.samples import EXT4, INTENT, MAPPING, OTHER, XFS, header, marked
from tests.reconcile.world import DEVICE, World


def world_with(
    first: LuksHeader | Torn | None = None,
    second: LuksHeader | Torn | None = None,
    *,
    intent: FormatIntent | None = None,
    filesystem: Signature | None = None,
    noise: bool = False,
) -> World:
    """Return a world with that on its device and that in META."""
    world = World()
    world.medium.first, world.medium.second = first, second
    world.medium.filesystem, world.medium.noise = filesystem, noise
    world.meta.set_record(NodeRecord(() if intent is None else (intent,)))
    return world


def test_zeros_are_blank() -> None:
    """A device that reads as zeros is blank."""
    assert world_with().observe() == Blank(DEVICE)


def test_data_without_signature_is_foreign() -> None:
    """Bytes that nothing explains are somebody's."""
    assert isinstance(world_with(noise=True).observe(), Foreign)


def test_a_filesystem_is_found() -> None:
    """A plain filesystem is reported with its signature."""
    assert world_with(filesystem=EXT4).observe() == FilesystemFound(DEVICE, EXT4)


@pytest.mark.parametrize(
    "signature",
    [
        Signature("swap", usage="other"),
        Signature("LVM2_member", usage="raid"),
        Signature("", ambivalent=True, usage="filesystem"),
        Signature("gpt"),
        Signature(""),
    ],
    ids=lambda signature: signature.type or "unnamed",
)
def test_every_other_signature_is_foreign(signature: Signature) -> None:
    """Swap, RAID members, partition tables and contradicting signatures are neither blank nor mountable."""
    found = world_with(filesystem=signature).observe()
    assert isinstance(found, Foreign)
    assert found.what


def test_luks1_is_foreign_even_under_an_intent() -> None:
    """A LUKS1 volume is somebody's, whatever META announces."""
    world = world_with(intent=INTENT)
    world.medium.luks1 = True
    assert isinstance(world.observe(), Foreign)


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (header(), header(), Copies.EQUAL),
        (header(), TORN, Copies.FIRST_ONLY),
        (header(), None, Copies.FIRST_ONLY),
        (TORN, header(), Copies.SECOND_ONLY),
        (header(seqid=6), header(), Copies.DIFFER),
        (header(), header(seqid=6), Copies.DIFFER),
    ],
)
def test_a_finished_header_is_luks2_with_the_state_of_its_copies(
    first: LuksHeader | Torn | None, second: LuksHeader | Torn | None, state: Copies
) -> None:
    """One valid copy without our mark is enough for a LUKS2 volume; the newer one is its header."""
    found = world_with(first, second).observe()
    assert isinstance(found, Luks2)
    assert found.copies.state is state
    seqids = [copy.seqid for copy in (first, second) if isinstance(copy, LuksHeader)]
    assert found.header.seqid == max(seqids)
    assert found.format_intent is None


def test_a_finished_header_keeps_its_intent() -> None:
    """The mark is out and the intent not yet deleted: finished, and to be concluded."""
    found = world_with(header(), header(), intent=INTENT).observe()
    assert isinstance(found, Luks2)
    assert found.format_intent == INTENT


def test_a_finish_cut_between_the_copies_counts_as_finished() -> None:
    """Copy 1 without the mark is newer than the marked copy 2."""
    found = world_with(header(seqid=6), marked(), intent=INTENT).observe()
    assert isinstance(found, Luks2)
    assert not found.header.unfinished_mark


def test_a_finish_cut_inside_copy_1_counts_as_unfinished() -> None:
    """Only the marked copy 2 is valid: nothing was mounted yet, so the format starts again."""
    found = world_with(TORN, marked(), intent=INTENT).observe()
    assert isinstance(found, Unfinished)


def test_two_torn_copies_are_damaged_without_an_intent() -> None:
    """A LUKS2 magic without a valid copy is reported with what is wrong with each."""
    found = world_with(TORN, TORN).observe()
    assert isinstance(found, Damaged)
    assert "checksum" in found.reason


@pytest.mark.parametrize(
    ("first", "second", "noise"),
    [(None, None, False), (None, None, True), (TORN, None, True), (TORN, TORN, True), (None, TORN, True)],
)
def test_whatever_a_cut_format_leaves_is_unfinished(
    first: LuksHeader | Torn | None,
    second: LuksHeader | Torn | None,
    noise: bool,  # noqa: FBT001
) -> None:
    """Zeros, random bytes and torn copies below an intent are ours to format again."""
    found = world_with(first, second, intent=INTENT, noise=noise).observe()
    assert found == Unfinished(DEVICE, INTENT, None)


def test_our_own_torn_filesystem_is_unfinished() -> None:
    """A plain filesystem with the announced UUID is what a cut mkfs left."""
    assert world_with(filesystem=XFS, intent=INTENT).observe() == Unfinished(DEVICE, INTENT, None)


def test_a_signature_that_libblkid_calls_luks_is_unfinished() -> None:
    """Some cuts leave what libblkid takes for LUKS and no copy that can be read."""
    found = world_with(filesystem=Signature("crypto_LUKS", usage="crypto"), intent=INTENT).observe()
    assert isinstance(found, Unfinished)


@pytest.mark.parametrize("first", [None, TORN], ids=["no header", "torn header"])
@pytest.mark.parametrize("signature", [EXT4, Signature("", ambivalent=True)], ids=["ext4", "ambivalent"])
def test_what_somebody_put_there_since_is_not_ours(first: Torn | None, signature: Signature) -> None:
    """An intent does not permit to format a filesystem with another UUID, or several signatures at once."""
    found = world_with(first, intent=INTENT, filesystem=signature).observe()
    assert isinstance(found, Damaged)


def test_an_intent_without_uuid_matches_no_signature() -> None:
    """Two empty UUIDs are not the same UUID."""
    nameless = replace(INTENT, header_uuid="")
    world = world_with(filesystem=Signature("", ambivalent=True), intent=nameless)
    assert isinstance(world.observe(), Damaged)


def test_the_mark_alone_is_damaged() -> None:
    """Our mark without an intent is never permission to destroy."""
    assert isinstance(world_with(marked(), marked()).observe(), Damaged)


def test_the_mark_under_another_intent_is_damaged() -> None:
    """An intent that names another header UUID does not permit to destroy this one."""
    assert isinstance(world_with(marked(OTHER), marked(OTHER), intent=INTENT).observe(), Damaged)


def test_a_finished_header_under_another_intent_is_damaged() -> None:
    """A finished volume with another UUID than announced is somebody's work."""
    assert isinstance(world_with(header(OTHER), header(OTHER), intent=INTENT).observe(), Damaged)


@pytest.mark.parametrize(
    "change",
    [
        {"requirements": ("online-reencrypt-v2",)},
        {"requirements": ("something-new",)},
        {"segments": header().segments * 2},
        {"keyslots": (replace(header().keyslots[0], type="reencrypt"),)},
    ],
    ids=["reencrypt flag", "unknown flag", "second segment", "reencrypt keyslot"],
)
def test_a_marked_header_with_requirements_is_damaged(change: dict[str, object]) -> None:
    """Whatever no format of ours writes takes the permission away."""
    odd = replace(marked(), **change)
    assert isinstance(world_with(odd, odd, intent=INTENT).observe(), Damaged)


def test_a_marked_header_of_ours_is_unfinished() -> None:
    """Mark, intent, partition and UUID agree: the format starts again."""
    found = world_with(marked(), marked(), intent=INTENT).observe()
    assert found == Unfinished(DEVICE, INTENT, marked())


def test_copies_of_two_volumes_are_damaged() -> None:
    """Two valid copies with different UUIDs are not one volume, whichever is newer."""
    assert isinstance(world_with(header(seqid=6), header(OTHER)).observe(), Damaged)


def test_copies_that_differ_under_one_number_are_damaged() -> None:
    """No cut leaves two valid copies with one sequence id and different content."""
    assert isinstance(world_with(header(), replace(header(), label="other")).observe(), Damaged)


@pytest.mark.parametrize(("second", "intent"), [(header(), None), (marked(), INTENT)], ids=["finished", "marked"])
def test_a_filesystem_over_the_first_copy_is_damaged(second: LuksHeader, intent: FormatIntent | None) -> None:
    """Where mkfs destroyed copy 1, copy 2 does not make it a LUKS2 volume to repair over that filesystem."""
    found = world_with(None, second, intent=intent, filesystem=EXT4).observe()
    assert isinstance(found, Damaged)


def test_missing_and_ambiguous_pass_through() -> None:
    """What find says without a device is the answer, and nothing is read."""
    for answer in (Missing("partition STATE"), Ambiguous(("/dev/sda3", "/dev/sdb3"), "two partitions")):
        world = world_with()
        world.found = answer
        assert world.observe() is answer
        assert len(world.calls) == 1


def test_finding_does_not_wait() -> None:
    """Observing asks for the device as it is now: waiting happens outside of all locks."""
    world = world_with()
    world.observe()
    assert "for 0 s" in world.calls[0]


def test_another_partition_than_recorded_is_ambiguous() -> None:
    """A device with the right label and another GPT UUID than META recorded is named, not taken."""
    world = world_with()
    world.meta.set_record(NodeRecord(partitions=((STATE, OTHER),)))
    found = world.observe()
    assert isinstance(found, Ambiguous)
    assert OTHER in found.reason


def test_an_intent_for_another_partition_is_damaged() -> None:
    """An announced format of another partition permits nothing here."""
    world = world_with(intent=replace(INTENT, partition=OTHER))
    assert isinstance(world.observe(), Damaged)


def test_without_a_partition_the_path_is_the_identity() -> None:
    """A whole disk or an image file is known by its path."""
    world = world_with(noise=True, intent=replace(INTENT, partition="/srv/state.img"))
    world.found = Device("/srv/state.img", 100 * MIB, image=True)
    assert isinstance(world.observe(), Unfinished)


def test_an_open_volume_is_recognised() -> None:
    """Our mapping over this device is part of the answer, and its use is no obstacle."""
    world = world_with(header(), header())
    world.open_mapping, world.holder = MAPPING, "luks2-STATE"
    found = world.observe()
    assert isinstance(found, Luks2)
    assert found.mapping == MAPPING


def test_our_name_over_another_device_is_damaged() -> None:
    """A mapping of our name whose backing device is another one is never taken for the volume."""
    world = world_with(header(), header())
    world.open_mapping = replace(MAPPING, backing="/dev/sdb3")
    assert isinstance(world.observe(), Damaged)


@pytest.mark.parametrize("filesystem", [None, XFS], ids=["zeros", "filesystem"])
def test_an_open_mapping_without_header_is_never_blank(filesystem: Signature | None) -> None:
    """A header wiped below an open mapping: its data can still be saved, so nothing is formatted or mounted."""
    world = world_with(filesystem=filesystem)
    world.open_mapping = MAPPING
    assert isinstance(world.observe(), Damaged)


def test_a_device_in_use_is_damaged() -> None:
    """A header that somebody else holds open is left alone."""
    world = world_with(header(), header())
    world.holder = "mapping vg-data"
    found = world.observe()
    assert isinstance(found, Damaged)
    assert "vg-data" in found.reason


def test_a_mounted_plain_filesystem_is_found() -> None:
    """A plain volume in use is what a converged plain volume looks like."""
    world = world_with(filesystem=EXT4)
    world.holder = "mount /system/state"
    assert isinstance(world.observe(), FilesystemFound)


@pytest.mark.parametrize("filesystem", [None, XFS], ids=["no signature", "our filesystem"])
def test_an_announced_format_never_destroys_what_is_in_use(filesystem: Signature | None) -> None:
    """A plain filesystem that is mounted while its intent still stands is in use, not unfinished."""
    world = world_with(filesystem=filesystem, intent=INTENT, noise=True)
    world.holder = "mount /mnt"
    assert isinstance(world.observe(), Damaged)


def test_a_leftover_mapping_is_reported_with_an_unfinished_format() -> None:
    """What a failed attempt of this boot left open is named, so that it can be closed first."""
    world = world_with(marked(), marked(), intent=INTENT)
    world.open_mapping = MAPPING
    found = world.observe()
    assert isinstance(found, Unfinished)
    assert found.mapping == MAPPING


def test_observing_writes_nothing() -> None:
    """No answer costs a write."""
    for first in (None, TORN, header(), marked()):
        for intent in (None, INTENT):
            world = world_with(first, second=header(seqid=4), intent=intent)
            world.observe()
            assert world.power.writes == []
