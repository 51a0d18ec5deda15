"""A running node of image files with kms keys, and a KMS over TLS on loopback that misbehaves when it is told to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from luksctl.meta.store import AdvStore
from luksctl.model.config import EPHEMERAL, META, STATE, EncryptionPolicy
from luksctl.model.desired import DesiredVolume
from luksctl.model.meta import TAG_UUID_OVERRIDE
from luksctl.model.observed import Luks2
from luksctl.node.sync import adopt, ruling_config, sync
from luksctl.providers.kms_connection import KmsConnection
from luksctl.reconcile.converge import look
from luksctl.reconcile.keys import try_key
from tests.node.image_node import ImageNode, document, static
from tests.providers.authorities import Authority
from tests.providers.kms_server import KmsServer

UUID = "4c4c4544-0042-3510-8051-b4c04f4e5731"
PASSPHRASE = "one"
VOLUMES = (STATE, EPHEMERAL)


class KmsNode(ImageNode):
    """Both volumes are ours, with a static key in slot 0; META names STATE's keys. Calls take `late_s` at most."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch, *, late_s: float = 2.0) -> None:
        super().__init__(directory)
        patch.setattr("luksctl.node.kms_reach.KmsConnection", partial(KmsConnection, timeout_s=late_s, bundles=()))
        self.system.memory = 1024
        self.authority = Authority()
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_text(self.authority.pem)
        meta = str(self.images[META])
        AdvStore(meta, f"{meta}.lock").write_tag(TAG_UUID_OVERRIDE, UUID.encode())
        self.configure_with()
        for volume in VOLUMES:
            self.format(volume, {0: PASSPHRASE})
            adopt(self.node, volume)
        self.follow_in_meta()

    def configure_with(self, *keys: str, policy: str = "") -> None:
        """Make a config of the static key, `keys` and `policy` (a kms block) STATE's own."""
        kms = f"kms: {{caFiles: [{self.ca_file}]{', ' if policy else ''}{policy}}}\n"
        text = "---\n".join(document(volume, static(0, PASSPHRASE), *keys) for volume in VOLUMES)
        head = "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\n"
        cheap = "filesystems: {STATE: ext4, EPHEMERAL: ext4}\nkdf: {time: 4, memory: 32KiB, threads: 1}\n"
        (self.state / "config.yaml").write_text(f"{text}{head}{cheap}{kms}", encoding="utf-8")

    def use(self, server: KmsServer) -> None:
        """Configure a key of `server` in slot 1 of both volumes."""
        self.configure_with(key_of(server))

    def in_sync(self) -> bool:
        """Sync both volumes, and tell whether they are what the config asks for."""
        return all(synced.in_sync for synced in sync(self.node, VOLUMES))

    def problems(self) -> str:
        """Sync both volumes, and return what could not be done."""
        return "; ".join(problem for synced in sync(self.node, VOLUMES) for problem in synced.problems)

    def works(self, volume: str, slot: int = 1) -> None:
        """Open a slot with the key that its provider gives now; raises what the provider raises."""
        config = ruling_config(self.node)
        encryption = config.encryption_of(volume)
        assert encryption is not None
        key = next(key for key in encryption.keys if key.slot == slot)
        unknown = DesiredVolume(volume, None, EncryptionPolicy())
        found = look(unknown, self.settings.volume(volume), self.node.ports).observed
        assert isinstance(found, Luks2)
        token = found.header.token(slot)
        try_key(
            volume,
            key,
            None if token is None else token.json,
            self.node.ports.under(config.policy).provider(key),
            lambda candidate: self.node.ports.headers.test_key(found.device, slot, candidate),
        )


def key_of(server: KmsServer, slot: int = 1) -> str:
    """Return a key of `server` for a config."""
    return f"slot: {slot}, kms: {{endpoint: '{server.endpoint}'}}"
