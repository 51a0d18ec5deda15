"""The hot zone that comes next is found in the header, and read before a run."""

from __future__ import annotations

import pytest

from luksctl.cryptsetup.callbacks import Progress
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.next_hot_zone import expect_readable, next_hot_zone
from luksctl.cryptsetup.reencryption import ReencryptFlag, ReencryptParameters
from luksctl.errors import DeviceError
from luksctl.model.config import CHEAPEST_KDF
from luksctl.model.intent import ReencryptIntent, ReencryptKind
from luksctl.model.probe import Range
from luksctl.secret import Secret
from luksctl.units import MIB

PARAMETERS = ReencryptParameters(cipher="aes-xts-plain64", max_hotzone_bytes=MIB)


@pytest.fixture
def prepared(volume: str, key: Secret) -> str:
    """Return `volume` with a new volume key in the unbound slot 1."""
    with Device.open(volume) as device, Secret.random(64) as new_volume_key:
        device.keyslots.add_unbound(1, key, new_volume_key, CHEAPEST_KDF)
    return volume


def zones_read(path: str, how: ReencryptIntent) -> list[tuple[int, int]]:
    """Return which bytes are read before a run, by offset and size."""
    found: list[tuple[int, int]] = []

    def pread(offset_bytes: int, size_bytes: int) -> bytes:
        found.append((offset_bytes, size_bytes))
        return b""

    with Device.open(path) as device:
        expect_readable(device, how, pread)
    return found


def test_the_next_hot_zone_is_read_before_a_run(prepared: str, key: Secret) -> None:
    """The first one, and later what follows on that which a stopped run has done."""
    how = ReencryptIntent("", "", "", PARAMETERS.cipher, hotzone_bytes=2 * MIB)

    def stop(done: Progress) -> None:
        if done.done_bytes >= 4 * MIB:
            raise KeyboardInterrupt

    with Device.open(prepared) as device:
        device.reencryption.start(PARAMETERS, key, old_slot=0, new_slot=1, flags=ReencryptFlag.INITIALIZE_ONLY)
        start = int(device.header.metadata()["segments"]["0"]["offset"])
    assert zones_read(prepared, how) == [(start, MIB), (start + MIB, MIB)]
    with Device.open(prepared) as device:
        device.reencryption.resume(PARAMETERS, key)
        with pytest.raises(KeyboardInterrupt):
            device.reencryption.run(stop)
        done_bytes = int(device.header.metadata()["segments"]["0"]["size"])
    assert done_bytes >= 4 * MIB
    assert zones_read(prepared, how) == [(start + done_bytes, MIB), (start + done_bytes + MIB, MIB)]


def test_a_block_that_cannot_be_read_ends_it_before_it_runs(prepared: str, key: Secret) -> None:
    """What the medium says is the error, with the device and the place."""
    with Device.open(prepared) as device:
        device.reencryption.start(PARAMETERS, key, old_slot=0, new_slot=1, flags=ReencryptFlag.INITIALIZE_ONLY)

        def pread(offset_bytes: int, _: int) -> bytes:
            raise DeviceError(f"{prepared} cannot be read at byte {offset_bytes}")

        with pytest.raises(DeviceError, match=f"{prepared} cannot be read at byte"):
            expect_readable(device, ReencryptIntent("", "", "", PARAMETERS.cipher), pread)


def segments_in_place(kind: str) -> dict[str, object]:
    """Return what the library writes when data of 40 MiB is to move, and nothing of it is done yet."""
    encrypts = kind == "encrypt"
    data, size = ("linear", str(8 * MIB)) if encrypts else ("crypt", "dynamic")
    moved = {"type": data, "offset": str(24 * MIB if encrypts else 0), "size": str(16 * MIB)}
    rest = {"type": data, "offset": str((16 if encrypts else 32) * MIB), "size": size}
    before = {"type": data, "offset": "0", "size": "dynamic", "flags": ["backup-previous"]}
    after = {"type": "crypt" if encrypts else "linear", "offset": "0", "size": "dynamic", "flags": ["backup-final"]}
    segments = {"0": moved, "1": rest, "2": moved | {"flags": ["backup-moved-segment"]}, "3": before, "4": after}
    return {"segments": segments, "digests": {"0": {"segments": ["4"] if encrypts else ["0", "1", "2", "3"]}}}


def test_the_next_hot_zone_of_data_that_moves() -> None:
    """Encryption goes from the end of the data to its head, whose copy comes last; decryption goes the other way."""
    encrypt = ReencryptIntent("", "", "", "", kind=ReencryptKind.ENCRYPT)
    decrypt = ReencryptIntent("", "", "", "", kind=ReencryptKind.DECRYPT)
    assert next_hot_zone(segments_in_place("encrypt"), encrypt) == Range(16 * MIB, 8 * MIB)
    assert next_hot_zone(segments_in_place("decrypt"), decrypt) == Range(0, 16 * MIB)
    small = ReencryptIntent("", "", "", "", kind=ReencryptKind.ENCRYPT, hotzone_bytes=2 * MIB)
    assert next_hot_zone(segments_in_place("encrypt"), small) == Range(22 * MIB, 2 * MIB)
