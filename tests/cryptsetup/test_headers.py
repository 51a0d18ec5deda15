"""The Headers port on an image file: what reconcile asks for is on the medium, and what only looks leaves it alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.cryptsetup.ondisk import read_copies
from luksctl.errors import CryptsetupError, KdfOutOfBounds, SlotPassphraseRejected
from luksctl.model.config import CHEAPEST_KDF, ConfiguredKey, NodeIdKey, VolumeEncryption
from luksctl.model.header import UNFINISHED_MARK, Copies
from luksctl.model.ports import Activation, HeaderFormat
from luksctl.model.probe import Device
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from tests.cryptsetup.conftest import IMAGE_BYTES
from tests.cryptsetup.forging import HEADER_BYTES, forge_json, overwrite, reader

_UUID = "11111111-2222-3333-4444-555555555555"
_ENCRYPTION = VolumeEncryption(keys=(ConfiguredKey(0, NodeIdKey()),), block_size_bytes=4096)


def _read(path: str, offset: int, length: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


def _device(path: str) -> Device:
    return Device(path, IMAGE_BYTES, image=True)


@pytest.fixture
def headers() -> LuksHeaders:
    """Return the port."""
    return LuksHeaders(_read)


@pytest.mark.parametrize(("talos_readable", "header_size_bytes"), [(True, 16 * KIB), (False, 64 * KIB)])
def test_format_writes_a_marked_header_with_data_at_16_mib(
    image: str, headers: LuksHeaders, volume_key: Secret, *, talos_readable: bool, header_size_bytes: int
) -> None:
    """Both layouts keep the data where Talos and cryptsetup expect it, and both carry mark and UUID."""
    headers.format(_device(image), HeaderFormat(_UUID, UNFINISHED_MARK, _ENCRYPTION, talos_readable), volume_key)
    copies = read_copies(*reader(image))
    header = copies.best
    assert copies.state is Copies.EQUAL
    assert header is not None
    assert (header.uuid, header.unfinished_mark, header.keyslots) == (_UUID, True, ())
    assert header.header_size_bytes == header_size_bytes
    assert [(s.offset_bytes, s.sector_size_bytes) for s in header.segments] == [(16 * MIB, 4096)]


def test_first_format_up_to_the_finished_volume(
    image: str, headers: LuksHeaders, key: Secret, volume_key: Secret
) -> None:
    """Format, keyslot, token, proof and the end of the mark leave two equal copies without the mark."""
    device = _device(image)
    headers.format(device, HeaderFormat(_UUID, UNFINISHED_MARK, _ENCRYPTION, talos_readable=True), volume_key)
    headers.add_keyslot(device, 5, key, volume_key, CHEAPEST_KDF)
    headers.write_token(device, 5, '{"type":"luksctl-test","keyslots":["5"]}')
    headers.test_key(device, 5, key)
    with headers.volume_key(device, 5, key) as found:
        assert found == volume_key
    headers.clear_subsystem(device)
    copies = read_copies(*reader(image))
    assert copies.state is Copies.EQUAL
    assert copies.best is not None
    assert not copies.best.unfinished_mark
    assert copies.best.token(5) is not None


def test_looking_writes_nothing_even_where_a_copy_is_damaged(
    volume: str, headers: LuksHeaders, key: Secret, other_key: Secret, volume_key: Secret
) -> None:
    """Testing a key, getting the volume key and opening leave a damaged copy for a step of the plan to repair."""
    overwrite(volume, 5000, b"\xff")
    before = Path(volume).read_bytes()
    device = _device(volume)
    headers.test_key(device, 0, key)
    headers.volume_key(device, 0, key).close()
    with pytest.raises(SlotPassphraseRejected):
        headers.test_key(device, 0, other_key)
    with pytest.raises(CryptsetupError):
        headers.activate(device, "n" * 200, volume_key, Activation())
    assert Path(volume).read_bytes() == before


@pytest.mark.parametrize("offset", [5000, HEADER_BYTES + 5000])
def test_repair_makes_the_copies_equal(volume: str, headers: LuksHeaders, key: Secret, offset: int) -> None:
    """Whichever copy is damaged, a repair rewrites it from the other."""
    overwrite(volume, offset, b"\xff")
    headers.repair(_device(volume))
    assert read_copies(*reader(volume)).state is Copies.EQUAL
    headers.test_key(_device(volume), 0, key)


def test_errors_name_the_device_in_the_operation(volume: str, headers: LuksHeaders, other_key: Secret) -> None:
    """The volume is the caller's to name; the device and the slot are named here."""
    with pytest.raises(SlotPassphraseRejected) as caught:
        headers.test_key(_device(volume), 0, other_key)
    assert caught.value.volume is None
    assert caught.value.slot == 0
    assert caught.value.operation == f"test the key on {volume}"


def test_forged_costs_are_refused(volume: str, headers: LuksHeaders, key: Secret) -> None:
    """A header that asks for an endless key derivation is refused through the port as well."""
    forge_json(volume, lambda document: document["keyslots"]["0"]["kdf"].update(time=2**32))
    with pytest.raises(KdfOutOfBounds):
        headers.test_key(_device(volume), 0, key)


def test_unknown_option_is_an_error(volume: str, headers: LuksHeaders, volume_key: Secret) -> None:
    """An option that dm-crypt does not have is never left out in silence."""
    with pytest.raises(KeyError):
        headers.activate(_device(volume), "luksctl-test", volume_key, Activation(options=("no_such_option",)))


def test_closing_what_is_not_open_is_an_error(headers: LuksHeaders) -> None:
    """A mapping that is not there cannot be closed."""
    with pytest.raises(CryptsetupError):
        headers.deactivate("luksctl-test-absent")
