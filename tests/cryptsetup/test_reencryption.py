"""Re-encryption runs, stops, goes on after Ctrl-C, and recovers after the process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luksctl.cryptsetup.callbacks import Progress
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.cryptsetup.header import Requirement
from luksctl.cryptsetup.header_image import copy_header
from luksctl.cryptsetup.keyslots import KeyslotStatus
from luksctl.cryptsetup.reencryption import (
    ReencryptFlag,
    ReencryptMode,
    ReencryptParameters,
    ReencryptStatus,
    Resilience,
)
from luksctl.errors import CryptsetupError, SlotPassphraseRejected
from luksctl.model.config import CHEAPEST_KDF
from luksctl.secret import Secret
from luksctl.units import MIB
from tests.cryptsetup.forging import overwrite, reader

PARAMETERS = ReencryptParameters(cipher="aes-xts-plain64", max_hotzone_bytes=MIB)

_KILLED = """
import os, signal, sys
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.reencryption import ReencryptParameters
from luksctl.secret import Secret

def die(progress):
    if progress.done_bytes >= 4 << 20:
        os.kill(os.getpid(), signal.SIGKILL)

with Secret.take(sys.stdin.buffer.read()) as key, Device.open(sys.argv[1]) as device:
    parameters = ReencryptParameters(cipher="aes-xts-plain64", max_hotzone_bytes=1 << 20)
    device.reencryption.start(parameters, key, old_slot=0, new_slot=1)
    device.reencryption.run(die)
"""


@pytest.fixture
def prepared(volume: str, key: Secret) -> str:
    """Return `volume` with a new volume key in the unbound slot 1."""
    with Device.open(volume) as device, Secret.random(64) as new_volume_key:
        device.keyslots.add_unbound(1, key, new_volume_key, CHEAPEST_KDF)
    return volume


def test_volume_key_is_replaced(prepared: str, key: Secret, volume_key: Secret) -> None:
    """After the run the old volume key opens nothing, the new slot is the only one, and its digest is a cheap one."""
    seen: list[Progress] = []
    with Device.open(prepared) as device:
        device.reencryption.start(PARAMETERS, key, old_slot=0, new_slot=1)
        state = device.reencryption.state()
        assert (state.status, state.mode) == (ReencryptStatus.CLEAN, ReencryptMode.REENCRYPT)
        assert (state.resilience, state.checksum_hash) == (Resilience.CHECKSUM, "sha256")
        assert device.header.requirements() & Requirement.ONLINE_REENCRYPT
        device.reencryption.run(seen.append)
        assert device.reencryption.state().status is ReencryptStatus.NONE
    assert [progress.done_bytes for progress in seen] == sorted(progress.done_bytes for progress in seen)
    assert len(seen) > 4
    with Device.open(prepared) as device:
        assert device.keyslots.status(1) is KeyslotStatus.ACTIVE_LAST
        assert all(digest["iterations"] == 1000 for digest in device.header.metadata()["digests"].values())
        with pytest.raises(CryptsetupError):
            device.verify_volume_key(volume_key)
        with device.volume_key(key, slot=1) as found:
            assert found != volume_key


def test_ctrl_c_stops_between_two_hot_zones(prepared: str, key: Secret) -> None:
    """Ctrl-C leaves a clean re-encryption, in which slots and tokens are refused, and which goes on where it was."""

    def ctrl_c(progress: Progress) -> None:
        if progress.done_bytes >= 4 * MIB:
            signal.raise_signal(signal.SIGINT)

    with Device.open(prepared) as device:
        device.reencryption.start(PARAMETERS, key, old_slot=0, new_slot=1)
        with pytest.raises(KeyboardInterrupt):
            device.reencryption.run(ctrl_c)
    with Device.open(prepared) as device:
        assert device.reencryption.state().status is ReencryptStatus.CLEAN
        assert device.test_key(key) in (0, 1)
        with pytest.raises(CryptsetupError, match="reencryption"):
            device.tokens.set(0, '{"type":"x","keyslots":[]}')
        seen: list[Progress] = []
        device.reencryption.resume(PARAMETERS, key)
        device.reencryption.run(seen.append)
        assert seen[0].done_bytes >= 4 * MIB
        assert device.reencryption.state().status is ReencryptStatus.NONE


def test_a_wrong_key_is_rejected_whichever_keyslot_was_tried_last(prepared: str, key: Secret) -> None:
    """The library's own keyslot opens nothing, and is the last of them: that is no reason to say that none is there."""
    with Device.open(prepared) as device, Secret.take(b"another key") as wrong:
        device.reencryption.start(PARAMETERS, key, old_slot=0, new_slot=1, flags=ReencryptFlag.INITIALIZE_ONLY)
        with pytest.raises(SlotPassphraseRejected, match="the key does not open it"):
            device.reencryption.resume(PARAMETERS, wrong)
        device.reencryption.resume(PARAMETERS, key)
        device.reencryption.run()


def test_killed_process_leaves_what_recovery_takes(prepared: str, key: Secret) -> None:
    """After SIGKILL the header says CRASH or CLEAN; recovery and resuming finish the work."""
    with key.view() as view:
        child = subprocess.run([sys.executable, "-c", _KILLED, prepared], input=view, env=os.environ, check=False)
    assert child.returncode == -signal.SIGKILL
    with Device.open(prepared) as device:
        status = device.reencryption.state().status
        assert status in (ReencryptStatus.CRASH, ReencryptStatus.CLEAN)
        if status is ReencryptStatus.CRASH:
            device.reencryption.recover(PARAMETERS, key)
            assert device.reencryption.state().status is ReencryptStatus.CLEAN
        device.reencryption.resume(PARAMETERS, key)
        device.reencryption.run()
        assert device.reencryption.state().status is ReencryptStatus.NONE


def test_volume_under_reencryption_is_not_opened_from_a_copy(prepared: str, key: Secret) -> None:
    """Its hot zone would be recorded in memory only."""
    with Device.open(prepared) as device:
        device.reencryption.start(PARAMETERS, key, old_slot=0, new_slot=1)
    image = copy_header(*reader(prepared))
    assert image.header.reencrypting
    with Device.from_copy(image, prepared) as device, pytest.raises(CryptsetupError, match="copy of its header"):
        device.mappings.activate_by_passphrase("luksctl-test", key)


def test_plain_data_is_encrypted_in_place(image: str, tmp_path: Path, key: Secret, volume_key: Secret) -> None:
    """With a header in a file of its own, data is encrypted where it stands, and decrypted to the same bytes."""
    header = str(tmp_path / "detached.header")
    with open(header, "xb") as target:
        target.truncate(16 * MIB)
    plain = b"plain text that must not be found " * 4096
    overwrite(image, 0, plain)
    encrypt = ReencryptParameters(cipher="aes-xts-plain64", mode=ReencryptMode.ENCRYPT)
    with Device.blank(header, data_path=image) as device:
        device.format(FormatParameters(data_offset_bytes=0, sector_size_bytes=512), volume_key)
        device.keyslots.add_by_volume_key(0, key, volume_key, CHEAPEST_KDF)
        device.reencryption.start(encrypt, key, old_slot=None, new_slot=0)
        device.reencryption.run()
        assert device.reencryption.state().status is ReencryptStatus.NONE
    assert plain[:64] not in Path(image).read_bytes()
    decrypt = ReencryptParameters(cipher="", mode=ReencryptMode.DECRYPT)
    with Device.detached(header, image) as device:
        device.verify_volume_key(volume_key)
        device.reencryption.start(decrypt, key, old_slot=0, new_slot=None)
        device.reencryption.run()
    assert Path(image).read_bytes().startswith(plain)
