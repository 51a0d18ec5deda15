"""A header is written with what was asked for, and its keys open it and nothing else."""

from __future__ import annotations

import pytest

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.cryptsetup.kdf import Kdf, Pbkdf2Cost
from luksctl.cryptsetup.mappings import MappingStatus, active_mapping, deactivate, mapping_status
from luksctl.errors import CryptsetupError, SlotPassphraseRejected
from luksctl.model.config import CHEAPEST_KDF, KdfCost
from luksctl.secret import Secret
from luksctl.units import KIB, MIB

_UUID = "11111111-2222-3333-4444-555555555555"


def test_header_says_what_was_asked_for(image: str) -> None:
    """Every parameter of a format reads back from the header."""
    parameters = FormatParameters(
        cipher="aes-xts-plain64",
        volume_key_size_bytes=32,
        sector_size_bytes=4096,
        uuid=_UUID,
        label="a label",
        subsystem="luksctl-unfinished",
        metadata_size_bytes=64 * KIB,
        keyslots_size_bytes=16 * MIB - 128 * KIB,
        data_offset_bytes=16 * MIB,
    )
    with Device.blank(image) as device:
        device.format(parameters)
    with Device.open(image) as device:
        header = device.header
        assert (header.uuid, header.label, header.subsystem) == (_UUID, "a label", "luksctl-unfinished")
        assert header.cipher == "aes-xts-plain64"
        assert header.sizes() == (64 * KIB, 16 * MIB - 128 * KIB)
        assert (header.sector_size_bytes, header.data_offset_bytes) == (4096, 16 * MIB)
        assert not header.detached
        assert device.keyslots.numbers() == ()


def test_digest_costs_what_was_asked_for(image: str) -> None:
    """The digest is never benchmarked: by default it has the thousand iterations that cost nothing."""
    with Device.blank(image) as device:
        device.format(FormatParameters())
        assert device.keyslots.count_limit() == 32
    with Device.open(image) as device:
        assert device.header.metadata()["digests"]["0"]["iterations"] == 1000


def test_given_volume_key_is_the_volume_key(volume: str, key: Secret, volume_key: Secret) -> None:
    """The volume key that was given at format comes back out of the keyslot."""
    with Device.open(volume) as device, device.volume_key(key, slot=0) as found:
        assert found == volume_key


def test_random_volume_key_opens_by_a_slot_added_in_the_same_handle(image: str, key: Secret) -> None:
    """After a format with a random volume key, the handle itself can give it out to a keyslot."""
    with Device.blank(image) as device:
        device.format(FormatParameters())
        with Secret.random(64) as wrong, pytest.raises(SlotPassphraseRejected):
            device.keyslots.add_by_volume_key(0, key, wrong, CHEAPEST_KDF)
        assert device.keyslots.add_by_volume_key(None, key, None, CHEAPEST_KDF) == 0
    with Device.open(image) as device, device.volume_key(key) as volume_key:
        assert len(volume_key) == device.header.volume_key_size_bytes == 64


def test_key_is_tested_against_one_slot_or_all(volume: str, key: Secret, other_key: Secret, volume_key: Secret) -> None:
    """A key opens its own slot by number, any slot without one, and no other."""
    with Device.open(volume) as device:
        device.keyslots.add_by_volume_key(7, other_key, volume_key, Pbkdf2Cost(1000))
        assert device.test_key(other_key) == 7
        assert device.test_key(other_key, slot=7) == 7
        assert device.test_key(key, slot=0) == 0
        with pytest.raises(SlotPassphraseRejected) as caught:
            device.test_key(other_key, slot=0)
    assert caught.value.slot == 0
    assert caught.value.operation == "test the key"


def test_empty_slot_is_not_a_wrong_key(volume: str, key: Secret) -> None:
    """Asking a slot that is not in use says so, and not that the key is wrong."""
    with Device.open(volume) as device:
        with pytest.raises(CryptsetupError, match="ENOENT") as tested:
            device.test_key(key, slot=9)
        with pytest.raises(CryptsetupError) as asked:
            device.volume_key(key, slot=9)
    assert not isinstance(tested.value, SlotPassphraseRejected)
    assert not isinstance(asked.value, SlotPassphraseRejected)


def test_wrong_volume_key_is_rejected(volume: str, volume_key: Secret) -> None:
    """The digest tells the right volume key from a wrong one."""
    with Device.open(volume) as device:
        device.verify_volume_key(volume_key)
        with Secret.random(64) as wrong, pytest.raises(SlotPassphraseRejected):
            device.verify_volume_key(wrong)


def test_no_header_is_an_error_that_names_the_file(image: str) -> None:
    """A blank file does not load, and the error says which file and what for."""
    with pytest.raises(CryptsetupError) as caught:
        Device.open(image)
    assert caught.value.volume == image
    assert caught.value.operation == "load the header"


def test_missing_file_is_an_error_with_the_librarys_own_words(tmp_path: object) -> None:
    """What libcryptsetup logs before there is a handle is caught too."""
    with pytest.raises(CryptsetupError, match="does not exist") as caught:
        Device.open(f"{tmp_path}/absent")
    assert caught.value.log


def test_failing_activation_carries_the_log(volume: str, key: Secret, volume_key: Secret) -> None:
    """A name that device-mapper cannot take fails by passphrase and by volume key, with its log lines."""
    name = "n" * 200
    with Device.open(volume) as device:
        with pytest.raises(CryptsetupError) as by_key:
            device.mappings.activate_by_passphrase(name, key, slot=0)
        with pytest.raises(CryptsetupError) as by_volume_key:
            device.mappings.activate_by_volume_key(name, volume_key)
    assert by_key.value.log
    assert by_volume_key.value.log


def test_closing_what_is_not_open_is_an_error() -> None:
    """A name that nobody opened is neither active nor can be closed."""
    assert mapping_status("luksctl-test-absent") in (MappingStatus.INACTIVE, MappingStatus.INVALID)
    with pytest.raises(CryptsetupError) as caught:
        deactivate("luksctl-test-absent")
    assert caught.value.operation == "close luksctl-test-absent"
    with pytest.raises(CryptsetupError):
        active_mapping("luksctl-test-absent")
    with pytest.raises(CryptsetupError):
        Device.active("luksctl-test-absent")


def test_changing_what_is_not_open_is_an_error(volume: str, key: Secret, volume_key: Secret) -> None:
    """Suspending, resuming and resizing a name that is not active fail and name it."""
    with Device.open(volume) as device:
        mappings = device.mappings
        for change in (
            lambda: mappings.suspend("absent"),
            lambda: mappings.resume_by_passphrase("absent", key, slot=0),
            lambda: mappings.resume_by_volume_key("absent", volume_key),
            lambda: mappings.resize("absent"),
            lambda: mappings.resize("absent", 8 * MIB, volume_key=volume_key),
        ):
            with pytest.raises(CryptsetupError) as caught:
                change()
            assert caught.value.operation is not None
            assert "absent" in caught.value.operation


@pytest.mark.parametrize("kdf", [KdfCost(1, 32, 1), KdfCost(4, 8, 1), Pbkdf2Cost(999)])
def test_costs_below_the_minimum_are_refused(volume: str, other_key: Secret, volume_key: Secret, kdf: Kdf) -> None:
    """Costs that libcryptsetup does not take add nothing, and the error has its words."""
    with Device.open(volume) as device:
        with pytest.raises(CryptsetupError, match="minimum") as caught:
            device.keyslots.add_by_volume_key(1, other_key, volume_key, kdf)
        assert device.keyslots.numbers() == (0,)
    assert caught.value.operation == "set the key derivation costs"


def test_detached_header_opens_the_data_behind_it(
    image: str, tmp_path: object, key: Secret, volume_key: Secret
) -> None:
    """With the header in a file of its own, the data device stays untouched and the key opens."""
    header = f"{tmp_path}/detached.header"
    with open(header, "xb") as target:
        target.truncate(16 * MIB)
    with Device.blank(header, data_path=image) as device:
        device.format(FormatParameters(data_offset_bytes=0), volume_key)
        device.keyslots.add_by_volume_key(0, key, volume_key, CHEAPEST_KDF)
    with Device.detached(header, image) as device:
        assert device.header.detached
        assert device.header.data_offset_bytes == 0
        assert device.test_key(key, slot=0) == 0
    with open(image, "rb") as data:
        assert not any(data.read())
