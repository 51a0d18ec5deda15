"""A saved header on image files: what a backup holds, and a restore cut at, and torn in, every write."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.header_bytes import backup_of, read_backup
from luksctl.cryptsetup.header_image import HeaderImage, copy_header
from luksctl.cryptsetup.header_restore import (
    Restoration,
    Stage,
    locked_for_writing,
    plan_restoration,
    restore_header,
    write_restoration,
)
from luksctl.cryptsetup.metadata import parse_metadata
from luksctl.cryptsetup.ondisk import Pread, read_copies
from luksctl.errors import Busy, CryptsetupError, DeviceError, Refused, SlotPassphraseRejected
from luksctl.model.config import CHEAPEST_KDF
from luksctl.model.header import Copies, HeaderCopies
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from luksctl.value import replace
from tests.cryptsetup.forging import HEADER_BYTES, forge_json, overwrite, reader_of
from tests.marker import MARKER

OLD, NEW = MARKER, b"the key it was changed to"
BLOCK_BYTES = 4 * KIB
HEADERS_END = 3 * MIB


def reader(path: str) -> tuple[Pread, int]:
    """Return what reads the file `path`, and its size."""

    def pread(offset: int, length: int) -> bytes:
        with open(path, "rb") as stream:
            return os.pread(stream.fileno(), length, offset)

    return pread, os.path.getsize(path)


def image_of(path: str) -> HeaderImage:
    """Return the header on the file `path`."""
    return copy_header(*reader(path))


def saved(path: str) -> bytes:
    """Return a backup of the header on the file `path`."""
    return backup_of(image_of(path))


def copies_of(path: str) -> HeaderCopies:
    """Return both copies on the file `path`."""
    return read_copies(*reader(path))


def restore(path: str, content: bytes, seen: HeaderCopies | None = None) -> None:
    """Restore `content` on the file `path`."""
    pread, size_bytes = reader(path)
    restore_header(path, size_bytes, pread, content, seen or copies_of(path))


def opens(path: str, key: bytes, slot: int | None = None) -> bool:
    """Tell whether `key` opens the volume; a copy of its header is asked, so nothing is mended."""
    with Secret.take(bytes(key)) as secret, Device.from_copy(image_of(path), path) as device:
        try:
            device.test_key(secret, slot=slot)
        except SlotPassphraseRejected:
            return False
    return True


def change_key(path: str, slot: int = 0, key: bytes = NEW, *, by: bytes = OLD) -> None:
    """Write another key into `slot`, into the very key area that it had."""
    with (
        Device.open(path) as device,
        Secret.take(bytes(by)) as old,
        Secret.take(bytes(key)) as new,
        device.volume_key(old) as volume_key,
    ):
        if slot in device.keyslots.numbers():
            device.keyslots.destroy(slot)
        device.keyslots.add_by_volume_key(slot, new, volume_key, CHEAPEST_KDF)


# ---- what a backup holds --------------------------------------------------------------------------------------------


def test_cryptsetup_reads_and_restores_our_backup(volume: str, tmp_path: Path) -> None:
    """The content is a backup file like its own."""
    content = saved(volume)
    change_key(volume)
    file = tmp_path / "backup"
    file.write_bytes(content)
    arguments = ["cryptsetup", "luksHeaderRestore", "--batch-mode", volume, "--header-backup-file", str(file)]
    subprocess.run(arguments, check=True, capture_output=True)
    assert opens(volume, OLD)
    assert not opens(volume, NEW)
    assert copies_of(volume).state is Copies.EQUAL


def test_we_restore_a_backup_of_cryptsetup(volume: str, tmp_path: Path) -> None:
    """Its files are taken as they are."""
    file = tmp_path / "backup"
    arguments = ["cryptsetup", "luksHeaderBackup", volume, "--header-backup-file", str(file)]
    subprocess.run(arguments, check=True, capture_output=True)
    change_key(volume)
    restore(volume, file.read_bytes())
    assert opens(volume, OLD)
    assert not opens(volume, NEW)


def test_a_backup_holds_nothing_of_removed_keyslots(volume: str) -> None:
    """Where no keyslot is, there are zeros, whatever is on the device."""
    area = parse_metadata(image_of(volume).header.json).areas[0]
    behind = area.offset_bytes + area.size_bytes
    overwrite(volume, behind + 4096, MARKER)
    assert not any(saved(volume)[behind:])


@pytest.mark.parametrize("damaged", [0, HEADER_BYTES])
def test_a_backup_has_both_copies_even_if_the_device_has_not(volume: str, damaged: int) -> None:
    """The valid one is taken twice, and nothing on the device is mended."""
    overwrite(volume, damaged + 512, b"damage")
    before = Path(volume).read_bytes()
    content = saved(volume)
    assert read_copies(reader_of(content), len(content)).state is Copies.EQUAL
    assert Path(volume).read_bytes() == before


@pytest.mark.parametrize("length", [0, 4096, HEADER_BYTES, 2 * HEADER_BYTES, 2 * HEADER_BYTES + 4096])
def test_a_part_of_a_backup_is_none(volume: str, length: int) -> None:
    """A file that was cut short is refused before anything is written."""
    content, before = saved(volume)[:length], Path(volume).read_bytes()
    with pytest.raises(DeviceError, match="no whole backup"):
        restore(volume, content)
    assert Path(volume).read_bytes() == before


# ---- a whole restore ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [(), (0,), (HEADER_BYTES,), (0, HEADER_BYTES)])
def test_what_was_saved_opens_again(volume: str, damaged: tuple[int, ...]) -> None:
    """With any of the copies damaged; both are there and alike afterwards, and what was changed meanwhile is gone."""
    content = saved(volume)
    change_key(volume)
    change_key(volume, 5, b"one more", by=NEW)
    for offset in damaged:
        overwrite(volume, offset, bytes(8192))
    restore(volume, content)
    assert copies_of(volume).state is Copies.EQUAL
    assert [opens(volume, key) for key in (OLD, NEW, b"one more")] == [True, False, False]
    with Device.open(volume) as device:
        assert device.keyslots.numbers() == (0,)


def test_an_erased_head_is_made_whole(volume: str) -> None:
    """Zeros where the header and all key areas were."""
    content = saved(volume)
    overwrite(volume, 0, bytes(MIB))
    restore(volume, content)
    assert opens(volume, OLD)


def test_restoring_twice_is_as_good_as_once(volume: str) -> None:
    """Also where the first time moved a key area; cryptsetup can go on working with the header."""
    content = saved(volume)
    change_key(volume)
    restore(volume, content)
    assert area_offset(volume) != parse_metadata(read_backup(content).header.json).areas[0].offset_bytes
    restore(volume, content)
    assert area_offset(volume) == parse_metadata(read_backup(content).header.json).areas[0].offset_bytes
    change_key(volume, 7)
    assert opens(volume, OLD, 0)
    assert opens(volume, NEW, 7)


def area_offset(path: str) -> int:
    """Return where the key area of the only keyslot is."""
    return parse_metadata(image_of(path).header.json).areas[0].offset_bytes


def test_the_key_area_of_a_slot_that_vanishes_is_overwritten(volume: str) -> None:
    """As destroying the slot would do."""
    content = saved(volume)
    change_key(volume, 5)
    area = parse_metadata(image_of(volume).header.json).areas[1]
    before = Path(volume).read_bytes()[area.offset_bytes : area.offset_bytes + area.size_bytes]
    restore(volume, content)
    assert before not in Path(volume).read_bytes()


def test_the_data_is_not_touched(volume: str) -> None:
    """Nothing behind the keyslots area is written."""
    data = bytes(range(256)) * 16
    end = image_of(volume).size_bytes
    overwrite(volume, end, data)
    content = saved(volume)
    change_key(volume)
    restore(volume, content)
    assert Path(volume).read_bytes()[end : end + len(data)] == data


# ---- refused --------------------------------------------------------------------------------------------------------


def test_a_header_that_somebody_changed_meanwhile_is_left_alone(volume: str) -> None:
    """What was decided was decided about another one."""
    content, seen = saved(volume), copies_of(volume)
    change_key(volume)
    before = Path(volume).read_bytes()
    with pytest.raises(Refused, match="meanwhile"):
        restore(volume, content, seen)
    assert Path(volume).read_bytes() == before


def test_two_do_not_write_at_once(volume: str) -> None:
    """Whoever holds libcryptsetup's lock of the header keeps us out."""
    content = saved(volume)
    with locked_for_writing(volume), pytest.raises(Busy, match="another program"):
        restore(volume, content)


def fill(path: str) -> None:
    """Add keyslots until there is no place for another one."""
    with (
        Device.open(path) as device,
        Secret.take(bytes(OLD)) as old,
        device.volume_key(old) as volume_key,
        contextlib.suppress(CryptsetupError),
    ):
        for slot in range(2, 32):
            device.keyslots.add_by_volume_key(slot, old, volume_key, CHEAPEST_KDF)


def test_no_room_beside_what_is_in_use_is_refused(volume: str) -> None:
    """Every place for a key area is taken, so the old one could only be written over."""
    content = saved(volume)
    change_key(volume, 1, OLD)
    change_key(volume, 0)
    fill(volume)
    before = Path(volume).read_bytes()
    with pytest.raises(Refused, match="no room"):
        restore(volume, content)
    assert Path(volume).read_bytes() == before


def test_a_header_of_another_shape_is_refused(volume: str) -> None:
    """Where the data begins elsewhere, the saved header would show noise."""
    content = saved(volume)
    forge_json(volume, lambda document: document["segments"]["0"].update(offset=str(20 * MIB)))
    before = Path(volume).read_bytes()
    with pytest.raises(Refused, match="where the data begins"):
        restore(volume, content)
    assert Path(volume).read_bytes() == before


FORGED: list[tuple[Callable[[dict[str, dict[str, dict[str, dict[str, str]]]]], object], str]] = [
    (lambda document: document["keyslots"]["0"]["area"].update(offset=str(64 * MIB)), "outside"),
    (lambda document: document["keyslots"].update({"1": document["keyslots"]["0"]}), "overlap"),
    (lambda document: document["keyslots"]["0"].pop("af"), "load the header"),
]


@pytest.mark.parametrize(("change", "message"), FORGED)
def test_a_backup_that_libcryptsetup_would_not_load_is_refused(
    volume: str, tmp_path: Path, change: Callable[[object], None], message: str
) -> None:
    """Its checksum is right and its content is not; nothing is written."""
    file = tmp_path / "forged"
    file.write_bytes(saved(volume))
    forge_json(str(file), change)
    before = Path(volume).read_bytes()
    with pytest.raises(DeviceError, match=message):
        restore(volume, file.read_bytes())
    assert Path(volume).read_bytes() == before


# ---- power cuts -----------------------------------------------------------------------------------------------------


def torn(before: bytes, stage: Stage) -> Iterator[bytes]:
    """Yield what the device may hold when power goes in `stage`: parts of its writes, and blocks of them mixed."""
    generator = random.Random(len(stage.writes))  # noqa: S311  # which blocks, no key
    content = bytearray(before)
    for offset, data in stage.writes:
        cuts = (0, 512, 4096, len(data) // 2, len(data))
        for length in sorted({cut for cut in cuts if cut <= len(data)}):
            yield bytes(content[:offset] + data[:length] + content[offset + length :])
        content[offset : offset + len(data)] = data
    for _ in range(4):
        mixed = bytearray(before)
        for offset, data in stage.writes:
            for start in range(0, len(data), BLOCK_BYTES):
                if generator.random() < 0.5:
                    block = data[start : start + BLOCK_BYTES]
                    mixed[offset + start : offset + start + len(block)] = block
        yield bytes(mixed)


def cuts_of(path: str, restoration: Restoration) -> Iterator[bytes]:
    """Yield every beginning that a cut of the restore may leave on the device; nothing behind it is written."""
    content = bytearray(reader(path)[0](0, HEADERS_END))
    assert all(offset + len(data) <= HEADERS_END for stage in restoration.stages for offset, data in stage.writes)
    for stage in restoration.stages:
        yield from torn(bytes(content), stage)
        for offset, data in stage.writes:
            content[offset : offset + len(data)] = data


@pytest.mark.parametrize("damaged", [None, 0, HEADER_BYTES])
def test_a_cut_leaves_one_of_the_two_headers_whole(volume: str, damaged: int | None) -> None:
    """Each of the two opens with its own key and not with the other's, and restoring again ends well."""
    content = saved(volume)
    change_key(volume)
    if damaged is not None:
        overwrite(volume, damaged + 512, b"damage")
    found = set()
    restoration = plan_restoration(read_backup(content), image_of(volume), reader(volume)[0])
    states = list(cuts_of(volume, restoration))
    assert len(states) > 20
    for state in states:
        overwrite(volume, 0, state)
        keys = opens(volume, OLD), opens(volume, NEW)
        assert keys in {(True, False), (False, True)}
        found.add(keys)
    assert len(found) == 2
    for state in random.Random(0).sample(states, 6):  # noqa: S311  # as above
        overwrite(volume, 0, state)
        restore(volume, content)
        assert (opens(volume, OLD), opens(volume, NEW)) == (True, False)


def test_a_cut_where_nothing_was_valid_is_restored_again(volume: str) -> None:
    """Then either none of the copies is valid, as before, or one that opens."""
    content = saved(volume)
    for offset in (0, HEADER_BYTES):
        overwrite(volume, offset + 512, b"damage")
    overwrite(volume, 2 * HEADER_BYTES, bytes(8192))
    restoration = plan_restoration(read_backup(content), None, reader(volume)[0])
    for number, state in enumerate(cuts_of(volume, restoration)):
        overwrite(volume, 0, state)
        assert copies_of(volume).best is None or opens(volume, OLD)
        if number % 5 == 0:
            restore(volume, content)
            assert opens(volume, OLD)


def test_the_stages_are_written_in_order_and_synced_apart(volume: str) -> None:
    """Key areas, the copy that does not count, the copy that does, and what no keyslot names."""
    content = saved(volume)
    change_key(volume)
    restoration = plan_restoration(read_backup(content), image_of(volume), reader(volume)[0])
    log: list[str] = []
    write_restoration(restoration, lambda offset, _: log.append(str(offset)), lambda: log.append("sync"))
    (moved,) = (offset for offset, _ in restoration.stages[0].writes)
    rest = [str(offset) for offset, _ in restoration.stages[3].writes]
    assert log == [str(moved), "sync", str(HEADER_BYTES), "sync", "0", "sync", *rest, "sync"]
    assert restoration.seqid > image_of(volume).header.seqid


def test_a_sequence_id_that_no_header_comes_to_is_refused(volume: str) -> None:
    """Who forged it would make every later write impossible."""
    forged = image_of(volume)
    high = replace(forged, header=replace(forged.header, seqid=1 << 62))
    with pytest.raises(DeviceError, match="sequence id"):
        plan_restoration(high, image_of(volume), reader(volume)[0])
