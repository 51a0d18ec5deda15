"""Image files to measure on: volumes formatted the way luksctl formats them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.meta.store import AdvStore
from luksctl.model.config import (
    CHEAPEST_KDF,
    EPHEMERAL,
    META,
    META_SIZE_BYTES,
    STATE,
    ConfiguredKey,
    KdfCost,
    NodeIdKey,
    VolumeEncryption,
)
from luksctl.model.meta import TAG_UUID_OVERRIDE
from luksctl.model.ports import HeaderFormat
from luksctl.model.probe import Device
from luksctl.node.expected import write_expected
from luksctl.providers.node_id import make_machine_check
from luksctl.secret import Secret
from luksctl.units import MIB

SIZE_BYTES = 32 * MIB
PASSPHRASE = b"a passphrase for measuring"
_VOLUME_KEY_BYTES = 64
_ENCRYPTION = VolumeEncryption(keys=(ConfiguredKey(0, NodeIdKey()),))
_NODE_UUID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"

_CONFIG = """\
apiVersion: v1alpha1
kind: VolumeConfig
name: STATE
encryption:
  provider: luks2
  keys:
    - slot: 0
      static: {passphrase: "a passphrase for measuring"}
    - slot: 1
      nodeID: {}
"""


@dataclass(frozen=True, slots=True)
class Volume:
    """A formatted image: `device` as the ports name it, and a file with the passphrase of slot 0."""

    device: Device
    key_file: Path


def blank(path: Path) -> Device:
    """Make a sparse image of zeros."""
    with path.open("wb") as image:
        image.truncate(SIZE_BYTES)
    return Device(str(path), SIZE_BYTES, image=True)


def formatted(path: Path, kdf: KdfCost = CHEAPEST_KDF) -> Volume:
    """Make an image with one keyslot of that cost."""
    device = blank(path)
    headers = LuksHeaders(medium.read)
    how = HeaderFormat(str(uuid.uuid4()), "", _ENCRYPTION, talos_readable=True)
    with Secret.random(_VOLUME_KEY_BYTES) as volume_key, Secret.take(PASSPHRASE) as key:
        headers.format(device, how, volume_key)
        headers.add_keyslot(device, 0, key, volume_key, kdf)
    key_file = path.with_suffix(".key")
    key_file.write_bytes(PASSPHRASE)
    return Volume(device, key_file)


def node_directory(directory: Path) -> Path:
    """Fill `directory` with what the hook finds where settings and a machine config are given as files."""
    directory.mkdir()
    formatted(directory / STATE)
    with (directory / META).open("wb") as meta:
        meta.truncate(META_SIZE_BYTES)
    (directory / "machine.yaml").write_text(_CONFIG, encoding="utf-8")
    volumes = "".join(f"  {name}: {{image: {directory / name}}}\n" for name in (META, STATE))
    (directory / "luksctl.yaml").write_text(f"volumes:\n{volumes}", encoding="utf-8")
    return directory


def two_volumes(directory: Path) -> Path:
    """Fill `directory` with a META, a STATE and an EPHEMERAL, the last two formatted."""
    converged_node(directory)
    formatted(directory / EPHEMERAL)
    return directory


def converged_node(directory: Path) -> Path:
    """Fill `directory` with what the hook finds on a node that was installed before: META has all that it writes."""
    directory.mkdir()
    volume = formatted(directory / STATE)
    path = str(directory / META)
    meta = AdvStore(path, f"{path}.lock", create=True)
    meta.write_state_encryption(_ENCRYPTION)
    # A node UUID of its own: not every machine that measures has one, or lets us read it.
    meta.write_tag(TAG_UUID_OVERRIDE, _NODE_UUID.encode())
    meta.update_record(lambda record: record.with_machine_check(make_machine_check(_NODE_UUID)))
    meta.update_record(lambda record: record.with_finished(STATE, volume.device.identity, encrypted=True))
    write_expected(str(directory / "expected.json"), (STATE,))
    return directory
