"""The command line on a node of image files whose STATE is mounted, and whose EPHEMERAL is a plain ext4.

All is real but what takes the kernel: what is opened is noted and counts as a mapping, and units are noted.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luksctl import wiring
from luksctl.cli.main import main
from luksctl.cryptsetup.headers import LuksHeaders
from luksctl.devices import medium
from luksctl.model.config import EPHEMERAL, STATE, Settings
from luksctl.model.intent import Intent
from luksctl.model.ports import Activation
from luksctl.model.probe import Device
from luksctl.model.step import Done
from luksctl.node.sources import parse_config, store_config
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace
from tests.cli.desk import PASSPHRASE, Answer
from tests.node.image_node import ImageNode, NotedUnits, document, static

DATA_BYTES = 48 * MIB
WITHOUT_KEYS = document(STATE, static(0, PASSPHRASE))
WITH_KEYS = WITHOUT_KEYS + "---\n" + document(EPHEMERAL, static(3, PASSPHRASE))
_CHEAP = "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkdf: {time: 4, memory: 32KiB, threads: 1}\n"


class Opening(LuksHeaders):
    """Headers that are real up to the kernel; who is told opens them."""

    def __init__(self, opened: Callable[[], None]) -> None:
        super().__init__(medium.read)
        self._tell = opened

    def activate_reencrypting(self, device: Device, mapped_name: str, key: Secret, how: Activation) -> None:
        """Try the key on the header that would be opened, and say that it is."""
        del mapped_name, how
        with self._open(device) as luks:
            luks.test_key(key)
        self._tell()


class PlainNode:
    """Such a node, and `run`."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.capture = capture
        self.images = ImageNode(directory)
        self.images.format(STATE, {0: PASSPHRASE})
        image, content = self.images.images[EPHEMERAL], directory / "content"
        with image.open("r+b") as target:
            target.truncate(DATA_BYTES + 48 * MIB)
        content.mkdir()
        (content / "file").write_bytes(bytes(range(256)) * 4096)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, image, f"{DATA_BYTES // 1024}k"], check=True)
        identity = str(image.resolve())
        self.images.node.ports.meta.update_record(
            lambda record: record.with_finished(EPHEMERAL, identity, encrypted=False)
        )
        self.system = NotedUnits(self.images.system.mounts)
        headers = Opening(lambda: self.images.open(EPHEMERAL))
        node = replace(self.images.node, system=self.system, ports=replace(self.images.node.ports, headers=headers))
        self.images.node = node
        self.configure(WITH_KEYS)

        def build(_: Settings, announce: Callable[[Done], None], *__: object, tell: Callable[[str], None]) -> Any:
            return replace(self.images.node, announce=announce, tell=tell)

        patch.setattr(wiring, "build_node", build)
        patch.setattr(wiring, "read_settings", lambda _: self.images.settings)

    def configure(self, text: str) -> None:
        """Make this STATE's own config."""
        store_config(str(self.images.state), parse_config((text + _CHEAP).encode(), "a test", "config.yaml"))

    def encrypted(self) -> None:
        """Have EPHEMERAL be encrypted by the keys that it had before, and a config without them."""
        image = self.images.images[EPHEMERAL]
        image.write_bytes(bytes(DATA_BYTES))
        self.images.format(EPHEMERAL, {3: PASSPHRASE})
        identity = str(image.resolve())
        self.images.node.ports.meta.update_record(
            lambda record: record.with_finished(EPHEMERAL, identity, encrypted=True)
        )
        self.configure(WITHOUT_KEYS)

    @property
    def intents(self) -> tuple[Intent, ...]:
        """Return what META announces."""
        return self.images.node.ports.meta.load().record.intents

    def held_by(self, holder: str | None) -> None:
        """Have the device be in use, or not."""
        vars(self.images.node.ports.disks)["in_use"] = lambda _: holder

    def run(self, *words: str) -> Answer:
        """Run `luksctl` with these words on the node."""
        self.capture.readouterr()
        code = main(words)
        said = self.capture.readouterr()
        return Answer(code, said.out, said.err)
