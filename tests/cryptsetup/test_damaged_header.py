"""Both header copies are read and judged without a write, whatever the bytes are."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.metadata import parse_metadata
from luksctl.cryptsetup.ondisk import read_copies
from luksctl.errors import DeviceError
from luksctl.model.config import CHEAPEST_KDF
from luksctl.model.header import SECONDARY_OFFSETS, Copies, HeaderCopies
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from tests.cryptsetup.forging import HEADER_BYTES, forge_json, overwrite, reader, reader_of, seal


def test_header_facts_are_those_of_the_library(volume: str, other_key: Secret, volume_key: Secret) -> None:
    """The parsed header says what libcryptsetup says of the same device."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(7, other_key, volume_key, CHEAPEST_KDF)
        device.tokens.set(7, '{"type":"luksctl-test","keyslots":["7"]}')
        expected = (device.header.uuid, device.header.label, device.header.subsystem, device.keyslots.numbers())
    copies = read_copies(*reader(volume))
    header = copies.best
    assert copies.state is Copies.EQUAL
    assert header is not None
    assert (header.uuid, header.label, header.subsystem, tuple(s.number for s in header.keyslots)) == expected
    slot = header.keyslot(7)
    assert slot is not None
    assert (slot.kdf, slot.time, slot.memory_kib, slot.threads, slot.iterations) == ("argon2id", 4, 32, 1, None)
    token = header.token(7)
    assert token is not None
    assert (token.type, token.keyslots) == ("luksctl-test", (7,))
    (segment,) = header.segments
    assert (segment.encryption, segment.sector_size_bytes, segment.offset_bytes) == ("aes-xts-plain64", 512, 16 * MIB)
    assert header.digest_iterations == 1000
    assert not header.reencrypting


def test_blank_device_has_no_copies(image: str) -> None:
    """Zeros hold no header at any place."""
    assert read_copies(*reader(image)) == HeaderCopies(Copies.NONE)


@pytest.mark.parametrize("size", [*(offset for offset in SECONDARY_OFFSETS if offset <= MIB)])
def test_second_copy_is_found_at_every_legal_place(image: str, size: int) -> None:
    """With the first copy gone, the second is found wherever its size put it."""
    with Device.blank(image) as device:
        device.format(FormatParameters(metadata_size_bytes=size))
    assert read_copies(*reader(image)).state is Copies.EQUAL
    overwrite(image, 0, bytes(4096))
    copies = read_copies(*reader(image))
    assert (copies.state, copies.first) == (Copies.SECOND_ONLY, None)
    assert copies.second is not None
    assert copies.second.offset_bytes == size


@pytest.mark.parametrize(
    ("offset", "content", "problem"),
    [
        (4, b"xx", None),
        (6, b"\0\7", "version 7"),
        (8, b"\0" * 7 + b"\1", "header size"),
        (16, b"\1", "checksum"),
        (24, b"other label", "checksum"),
        (72, b"md5\0\0\0\0", "checksum algorithm"),
        (256, b"\0" * 6 + b"\x40\0", "at offset 16384"),
        (448, b"\0" * 32, "checksum"),
        (4096, b"[", "checksum"),
        (16383, b"x", "checksum"),
    ],
)
def test_each_damage_of_the_first_copy_is_named(volume: str, offset: int, content: bytes, problem: str | None) -> None:
    """A damaged field makes the first copy invalid with its reason, and the second one stands."""
    overwrite(volume, offset, content)
    copies = read_copies(*reader(volume))
    assert copies.state is Copies.SECOND_ONLY
    if problem is None:
        assert copies.first is None
    else:
        assert copies.first is not None
        assert copies.first.problem is not None
        assert problem in copies.first.problem


def test_damage_of_both_copies_is_damaged(volume: str) -> None:
    """Two bad copies are neither none nor valid."""
    for offset in (0, HEADER_BYTES):
        overwrite(volume, offset + 5000, b"\xff")
    copies = read_copies(*reader(volume))
    assert copies.state is Copies.DAMAGED
    assert copies.best is None
    with pytest.raises(DeviceError, match="no valid LUKS2 header"):
        copy_header(*reader(volume))


def test_damaged_second_copy_leaves_the_first(volume: str) -> None:
    """A zeroed or torn second copy leaves the first one valid."""
    overwrite(volume, HEADER_BYTES + 100, b"\xff")
    assert read_copies(*reader(volume)).state is Copies.FIRST_ONLY
    overwrite(volume, HEADER_BYTES, bytes(HEADER_BYTES))
    copies = read_copies(*reader(volume))
    assert (copies.state, copies.second) == (Copies.FIRST_ONLY, None)


def test_older_second_copy_differs_and_the_newer_counts(volume: str) -> None:
    """A cut between the two copies leaves the older second one; loading makes them equal."""
    old = Path(volume).read_bytes()[HEADER_BYTES : 2 * HEADER_BYTES]
    with Device.open(volume) as device:
        device.header.set_label("newer", "")
    overwrite(volume, HEADER_BYTES, old)
    copies = read_copies(*reader(volume))
    assert copies.state is Copies.DIFFER
    assert copies.best is not None
    assert copies.best.label == "newer"
    with Device.open(volume):
        pass
    assert read_copies(*reader(volume)).state is Copies.EQUAL


def test_luks1_is_told_apart() -> None:
    """Version 1 is LUKS1, wherever the rest goes."""
    content = b"LUKS\xba\xbe\0\1" + bytes(MIB)
    assert read_copies(reader_of(content), len(content)).state is Copies.LUKS1


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), DeviceError("at byte 0: Input/output error")],
    ids=["os", "ours"],
)
def test_unreadable_sectors_make_a_copy_invalid(volume: str, error: Exception) -> None:
    """An I/O error, the kernel's or that of devices/medium, is a damaged copy: no exception, no blank device."""
    pread, size = reader(volume)

    def failing_head(offset: int, length: int) -> bytes:
        if offset == 0:
            raise error
        return pread(offset, length)

    def failing(_offset: int, _length: int) -> bytes:
        raise error

    copies = read_copies(failing_head, size)
    assert copies.state is Copies.SECOND_ONLY
    assert copies.first is not None
    assert copies.first.problem is not None
    assert "Input/output error" in copies.first.problem
    assert read_copies(failing, size).state is Copies.DAMAGED


def test_device_that_ends_inside_the_header(volume: str) -> None:
    """A device cut off inside its header is damaged, at every length."""
    pread, _ = reader(volume)
    for size in (0, 100, 4096, 16000, 16384, 20000, 32767):
        copies = read_copies(lambda offset, length, size=size: pread(offset, min(length, max(size - offset, 0))), size)  # type: ignore[misc]
        expected = Copies.NONE if size == 0 else Copies.FIRST_ONLY if size >= HEADER_BYTES else Copies.DAMAGED
        assert copies.state is expected


@pytest.mark.parametrize(
    "change",
    [
        {"keyslots": []},
        {"keyslots": {"x": {}}},
        {"keyslots": {"32": {}}},
        {"keyslots": {"0": 7}},
        {"keyslots": {"0": {"type": "luks2"}}},
        {"tokens": {"0": {"type": "x", "keyslots": ["99"]}}},
        {"tokens": {"0": {"type": 1, "keyslots": []}}},
        {"segments": {"0": {"type": "crypt", "offset": "-1"}}},
        {"segments": {"0": {"type": "crypt", "offset": 16777216}}},
        {"digests": {"0": {"iterations": "many"}}},
        {"config": {}},
        {"config": None},
    ],
)
def test_json_that_does_not_fit_is_named(volume: str, change: dict[str, Any]) -> None:
    """A right checksum over JSON that is no LUKS2 metadata is an invalid copy."""
    forge_json(volume, lambda document: document.update(change))
    copies = read_copies(*reader(volume))
    assert copies.state is Copies.DAMAGED
    assert copies.first is not None
    assert copies.first.problem is not None
    assert "JSON" in copies.first.problem


def test_endless_nesting_is_an_invalid_copy(volume: str) -> None:
    """JSON nested deeper than the parser goes, and numbers of thousands of digits, are no exception."""
    for text in (b"[" * 12000, b'{"keyslots":' + b"9" * 5000 + b"}", b"\xff\xfe", b'{"a":"\\ud800"}'):
        copy = bytearray(Path(volume).read_bytes()[:HEADER_BYTES])
        copy[4096:] = text.ljust(HEADER_BYTES - 4096, b"\0")
        seal(copy)
        copies = read_copies(reader_of(bytes(copy)), len(copy))
        assert copies.state is Copies.DAMAGED


@pytest.mark.parametrize("damaged", [None, 0, HEADER_BYTES])
def test_opening_from_a_copy_writes_nothing(volume: str, key: Secret, volume_key: Secret, damaged: int | None) -> None:
    """A device with no or one damaged copy is tested and unlocked from memory; its bytes stay as they were."""
    if damaged is not None:
        overwrite(volume, damaged + 5000, b"\xff")
    before = Path(volume).read_bytes()
    with Device.from_copy(copy_header(*reader(volume)), volume) as device:
        assert device.test_key(key, slot=0) == 0
        with device.volume_key(key, slot=0) as found:
            assert found == volume_key
        device.verify_volume_key(volume_key)
    assert Path(volume).read_bytes() == before


def test_writing_to_a_copy_changes_the_copy_only(volume: str) -> None:
    """A header written through a handle on a copy is not the one on the medium."""
    before = Path(volume).read_bytes()
    with Device.from_copy(copy_header(*reader(volume)), volume) as device:
        device.header.set_label("only here", "")
        assert device.header.label == "only here"
    assert Path(volume).read_bytes() == before


def test_key_area_outside_the_header_is_not_read(volume: str) -> None:
    """A forged area offset cannot make a copy read gigabytes."""
    forge_json(volume, lambda document: document["keyslots"]["0"]["area"].update(size=str(2**40)))
    with pytest.raises(DeviceError, match="outside the header") as caught:
        copy_header(*reader(volume))
    assert caught.value.slot == 0


def test_unreadable_key_area_is_an_error(volume: str) -> None:
    """An I/O error in a key area is an error of the device, with its reason."""
    pread, size = reader(volume)

    def failing_area(offset: int, length: int) -> bytes:
        if offset >= 2 * HEADER_BYTES:
            raise OSError(errno.EIO, "Input/output error")
        return pread(offset, length)

    with pytest.raises(DeviceError, match="Input/output error"):
        copy_header(failing_area, size)


def test_header_that_changes_later_is_the_one_that_was_checked(volume: str) -> None:
    """What was checked is what is opened: every byte of the header is read once."""
    pread, size = reader(volume)
    expected = pread(0, HEADER_BYTES)
    seen: set[int] = set()

    def changing(offset: int, length: int) -> bytes:
        data = pread(offset, length)
        again = offset in seen
        seen.add(offset)
        return data if not again else bytes(len(data))

    image = copy_header(changing, size)
    assert image.copies.state is Copies.EQUAL
    assert b"".join(data for offset, data in image.pieces if offset < HEADER_BYTES) == expected


def test_only_the_key_areas_asked_for_are_read(volume: str) -> None:
    """A bad sector in the key area of one slot does not keep the others from opening."""
    pread, size = reader(volume)

    def failing_area(offset: int, length: int) -> bytes:
        if offset >= 2 * HEADER_BYTES:
            raise OSError(errno.EIO, "Input/output error")
        return pread(offset, length)

    assert len(copy_header(failing_area, size, slots=()).pieces) == 1
    with pytest.raises(DeviceError, match="Input/output error"):
        copy_header(failing_area, size, slots=(0,))


def test_bad_sector_behind_a_foreign_head_is_no_header(image: str) -> None:
    """Where the first sectors show no LUKS magic, it does not matter that the next ones cannot be read."""
    pread, _ = reader(image)

    def failing(offset: int, length: int) -> bytes:
        if offset + length > 4096:
            raise OSError(errno.EIO, "Input/output error")
        return pread(offset, length)

    assert read_copies(failing, HEADER_BYTES).state is Copies.NONE


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64 * KIB), st.sampled_from([b"", b"LUKS\xba\xbe\0\2", b"LUKS\xba\xbe"]))
def test_random_bytes_never_raise(content: bytes, magic: bytes) -> None:
    """Whatever stands on a device, reading it gives an answer, and not a valid header."""
    device = magic + content
    assert read_copies(reader_of(device), len(device)).best is None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_flipped_bytes_never_make_another_header(template_head: bytes, data: st.DataObject) -> None:
    """A header with bytes flipped is the header that was there, or an invalid copy."""
    places = data.draw(st.lists(st.integers(0, 2 * HEADER_BYTES - 1), max_size=8))
    flipped = bytearray(template_head)
    for place in places:
        flipped[place] = data.draw(st.integers(0, 255))
    original = read_copies(reader_of(template_head), len(template_head)).best
    assert read_copies(reader_of(bytes(flipped)), len(flipped)).best in (None, original)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["keyslots", "tokens", "segments", "digests", "config", "0", "1", "type", "area", "kdf", "offset"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_random_json_is_metadata_or_a_value_error(document: object) -> None:
    """The parser of the JSON area raises ValueError and nothing else; a document without its sections always does."""
    try:
        metadata = parse_metadata(json.dumps(document))
    except ValueError:
        return
    assert isinstance(document, dict)
    assert len(metadata.keyslots) == len(document["keyslots"])
