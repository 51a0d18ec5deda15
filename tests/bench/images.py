"""Image files to measure on: volumes formatted the way luksctl formats them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.model.config import CHEAPEST_KDF, ConfiguredKey, KdfCost, NodeIdKey, VolumeEncryption
from luksctl.model.ports import HeaderFormat
from luksctl.model.probe import Device
from luksctl.secret import Secret
from luksctl.units import MIB

SIZE_BYTES = 32 * MIB
PASSPHRASE = b"a passphrase for measuring"
_VOLUME_KEY_BYTES = 64

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
    encryption = VolumeEncryption(keys=(ConfiguredKey(0, NodeIdKey()),))
    how = HeaderFormat(str(uuid.uuid4()), "", encryption, talos_readable=True)
    with Secret.random(_VOLUME_KEY_BYTES) as volume_key, Secret.take(PASSPHRASE) as key:
        headers.format(device, how, volume_key)
        headers.add_keyslot(device, 0, key, volume_key, kdf)
    key_file = path.with_suffix(".key")
    key_file.write_bytes(PASSPHRASE)
    return Volume(device, key_file)


def node_directory(directory: Path) -> Path:
    """Fill `directory` with what the hook finds on a node: META, an encrypted STATE, its config, its settings."""
    directory.mkdir()
    with (directory / "META").open("wb") as meta:
        meta.truncate(MIB)
    formatted(directory / "STATE")
    (directory / "machine.yaml").write_text(_CONFIG, encoding="utf-8")
    names = ("META", "STATE")
    volumes = "".join(f"  {name}: {{image: {directory / name}}}\n" for name in names)
    (directory / "luksctl.yaml").write_text(f"volumes:\n{volumes}", encoding="utf-8")
    return directory
