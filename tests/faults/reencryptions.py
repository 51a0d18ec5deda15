"""A volume gets a new volume key: at each moment it opens with the same data, and goes on or is as it was.

The data is real: what stands in the data area is decrypted with the volume key that the header gives at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS

from luksctl.model.bookkeeping import TOKEN_TYPE
from luksctl.model.config import STATE, ConfiguredKey, TpmKey, VolumeEncryption
from luksctl.model.intent import ReencryptIntent, Resilience
from luksctl.model.observed import Luks2, ReencryptStage
from luksctl.model.probe import Device
from luksctl.reconcile.converge import converge
from luksctl.reconcile.reencryption import ReencryptSession, reencrypt_session
from luksctl.secret import Secret
from luksctl.units import KIB, MIB
from luksctl.value import replace
from tests.faults.tpm_sealings import TpmNode, new_node
from tests.reconcile.images import Node, cheap_wish
from tests.reconcile.providers import encrypted, kms, static
from tests.reconcile.rotations import OLD
from tests.reconcile.stage import assert_in_sync, header_of, secret_of

KEYS: Final = encrypted(static(0, OLD), kms(4), ConfiguredKey(7, TpmKey()))
TOKENS: Final = frozenset({4, 7})
# A write to an image file may tear anywhere, and checksums tell only whole sectors apart.
HOW: Final = ReencryptIntent(
    "", "", "", "aes-xts-plain64", sector_size_bytes=4096, resilience=Resilience.JOURNAL, hotzone_bytes=MIB
)
DATA_BYTES: Final = 256 * KIB
_SECTOR_BYTES: Final = 4096
_IV_BYTES: Final = 512


def formatted(directory: Path) -> None:
    """Make a node whose STATE holds known data at the beginning and at the end of its data area."""
    node = new_node(directory)
    list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))
    node.reboot()
    with volume_key(node, KEYS.keys[0]) as key:
        for place in places(node):
            write_data(node, place, key)


def started(directory: Path) -> None:
    """Make such a node on which a re-encryption was started, and nothing re-encrypted yet."""
    formatted(directory)
    start(directory)


def renew(directory: Path) -> None:
    """Give STATE a new volume key, from the announcement to the end."""
    start(directory)
    go_on(directory)


def start(directory: Path) -> None:
    """Announce, prepare and start it."""
    node = TpmNode(directory)
    with session_of(node) as running:
        list(running.unlock())
        held = running.held()
        problems = running.carry_configured(held, ())
        if problems:
            raise AssertionError(problems)
        list(running.begin(held, HOW, lambda _: None))


def go_on(directory: Path) -> None:
    """Do what is left of it."""
    with session_of(TpmNode(directory)) as running:
        list(running.go_on())


def next_boot(directory: Path) -> None:
    """Open STATE as the boot does, go on as the service does: the same data, every key at its number, no intent."""
    node = TpmNode(directory)
    list(converge(cheap_wish(KEYS), node.volume_settings, node.ports))
    observed = node.observe()
    if not isinstance(observed, Luks2) or observed.mapping is None:
        raise AssertionError(f"it was not opened: {observed}")
    announced = observed.reencrypt_stage
    node.reboot()
    go_on(directory)
    assert_in_sync(node, KEYS)
    if node.facts().record.intents:
        raise AssertionError("an intent is left")
    tokens = {token.number for token in header_of(node).tokens if token.type != TOKEN_TYPE}
    if tokens != TOKENS:
        raise AssertionError(f"there are other tokens than those of the keys: {tokens}")
    expect_data(node)
    if announced is ReencryptStage.RUNNING and old_key_opens(directory, node):
        raise AssertionError("the old volume key is still the volume's")


# ---- data -----------------------------------------------------------------------------------------------------------


def places(node: Node) -> tuple[int, int]:
    """Return where the known data is, in bytes from the beginning of the data area."""
    size = node.state.stat().st_size - header_of(node).segments[0].offset_bytes
    return 0, size - DATA_BYTES


def known(place: int) -> bytes:
    """Return what stands there."""
    return b"".join(struct.pack(">Q", place + at) for at in range(0, DATA_BYTES, 8))


def volume_key(node: Node, key: ConfiguredKey) -> Secret:
    """Return the volume key by a configured key."""
    with Secret.take(secret_of(node, key)) as passphrase:
        return node.ports.headers.volume_key(device_of(node), key.slot, passphrase)


def write_data(node: Node, place: int, key: Secret) -> None:
    """Encrypt the known data as dm-crypt would, and keep the volume key's digest beside the images."""
    start = header_of(node).segments[0].offset_bytes + place
    with node.state.open("r+b") as file, key.view() as view:
        file.seek(start)
        file.write(_crypt(bytes(view), place, known(place), encrypting=True))
    with key.view() as view:
        (node.state.parent / "old-key").write_bytes(bytes(view))


def expect_data(node: Node) -> None:
    """Raise AssertionError unless the volume key that a configured key gives decrypts the data to what it was."""
    start = header_of(node).segments[0].offset_bytes
    content = node.state.read_bytes()
    with volume_key(node, KEYS.keys[0]) as key, key.view() as view:
        for place in places(node):
            found = content[start + place : start + place + DATA_BYTES]
            if _crypt(bytes(view), place, found, encrypting=False) != known(place):
                raise AssertionError(f"the data at {place} is not what it was")


def old_key_opens(directory: Path, node: Node) -> bool:
    """Tell whether the volume key is the one that it was."""
    with volume_key(node, KEYS.keys[0]) as key, key.view() as view:
        return bytes(view) == (directory / "old-key").read_bytes()


def _crypt(key: bytes, place: int, data: bytes, *, encrypting: bool) -> bytes:
    """Return `data` by aes-xts-plain64 in sectors of 4096 bytes, which dm-crypt numbers in units of 512."""
    done = []
    for at in range(0, len(data), _SECTOR_BYTES):
        tweak = struct.pack("<QQ", (place + at) // _IV_BYTES, 0)
        cipher = Cipher(AES(key), XTS(tweak))
        worker = cipher.encryptor() if encrypting else cipher.decryptor()
        done.append(worker.update(data[at : at + _SECTOR_BYTES]) + worker.finalize())
    return b"".join(done)


def device_of(node: Node) -> Device:
    """Return the device of STATE."""
    found = node.ports.disks.find(STATE, node.volume_settings, timeout_s=0)
    if not isinstance(found, Device):
        raise AssertionError(f"no device: {found}")
    return found


# ---- sessions -------------------------------------------------------------------------------------------------------


def session_of(
    node: Node, keys: VolumeEncryption = KEYS, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> AbstractContextManager[ReencryptSession]:
    """Return a session that re-encrypts STATE by a config with `keys`."""
    wanted = replace(cheap_wish(keys), follow_in_meta=True, sync=True)
    return reencrypt_session(wanted, node.volume_settings, node.ports, progress)
