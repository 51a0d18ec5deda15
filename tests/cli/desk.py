"""A machine made of image files, and the command line on it, in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from luksctl.cli.main import main
from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.cryptsetup.kdf import Kdf
from luksctl.model.config import CHEAPEST_KDF, META_SIZE_BYTES
from luksctl.node.node import Paths
from luksctl.secret import Secret
from luksctl.units import MIB

PASSPHRASE = "a passphrase for tests"

SETTINGS = """\
volumes:
  META: {image: meta.img}
  STATE: {image: state.img, mountPoint: null}
  EPHEMERAL: {image: ephemeral.img, mountPoint: null}
timeouts: {device: 1s, hook: 1s, lock: 1s, retryMin: 10ms, retryMax: 20ms}
"""

PLAIN = """\
apiVersion: luksctl/v1alpha1
kind: EncryptionPolicy
filesystems: {STATE: ext4, EPHEMERAL: ext4}
"""


def encrypted(*, slot: int = 0, passphrase: str = PASSPHRASE) -> str:
    """Return a config that encrypts both volumes with one static key."""
    volumes = (
        f"apiVersion: v1alpha1\nkind: VolumeConfig\nname: {volume}\nencryption:\n  provider: luks2\n  keys:\n"
        f"    - slot: {slot}\n      static: {{passphrase: {passphrase}}}\n"
        for volume in ("STATE", "EPHEMERAL")
    )
    policy = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkdf: {time: 4, memory: 32KiB, threads: 1}\n"
    return "---\n".join((*volumes, policy))


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one JSON object on standard output."""
        return json.loads(self.out)


def paths_in(directory: Path) -> Paths:
    """Return where a machine in `directory` has its files."""
    return Paths(
        run_dir=str(directory / "run"),
        machine_config=str(directory / "machine.yaml"),
        credential_dirs=(),
        expected_encrypted=str(directory / "expected.json"),
        erasures=str(directory / "erasures"),
        reset_hooks=str(directory / "reset.d"),
    )


class Desk:
    """Image files of META, STATE and EPHEMERAL, a settings file, and `run`."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capture = capture
        self.settings = directory / "luksctl.yaml"
        self.settings.write_text(SETTINGS, encoding="utf-8")
        self.config = directory / "machine.yaml"
        self.paths = paths_in(directory)
        self.image("meta", META_SIZE_BYTES)
        self.image("state", 32 * MIB)
        self.image("ephemeral", 96 * MIB)

    def path(self, name: str) -> Path:
        """Return the image file of that name."""
        return self.directory / f"{name}.img"

    def image(self, name: str, size_bytes: int) -> Path:
        """Make a blank image file."""
        path = self.path(name)
        path.unlink(missing_ok=True)
        path.touch(0o600)
        os.truncate(path, size_bytes)
        return path

    def write_config(self, text: str) -> None:
        """Put a machine config where cloud-init would."""
        self.config.write_text(text, encoding="utf-8")

    def format(self, name: str, *, slots: dict[int, str], kdf: Kdf = CHEAPEST_KDF, **parameters: Any) -> None:
        """Make the image a LUKS2 volume with these passphrases, as any other tool would."""
        with (
            Device.blank(str(self.path(name))) as device,
            Secret.random(64) as volume_key,
        ):
            device.format(FormatParameters(**parameters), volume_key)
            for slot, passphrase in slots.items():
                with Secret.take(passphrase.encode()) as key:
                    device.keyslots.add_by_volume_key(slot, key, volume_key, kdf)

    def bytes_of(self, *names: str) -> tuple[bytes, ...]:
        """Return what the images hold."""
        return tuple(self.path(name).read_bytes() for name in names)

    def run(self, *words: str) -> Answer:
        """Run `luksctl` with these words."""
        self.capture.readouterr()
        code = main(("--settings", str(self.settings), *words), self.paths)
        said = self.capture.readouterr()
        return Answer(code, said.out, said.err)


Desks = Callable[[], Desk]
