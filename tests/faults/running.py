"""A node that is up over image files: META, STATE's header, and in `mnt` what STATE's filesystem holds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from luksctl.config.documents import parse_machine_config
from luksctl.model.config import META, STATE, ByImage, MachineConfig, Settings, Timeouts, VolumeEncryption
from luksctl.model.config import VolumeSettings as Volume
from luksctl.node.boot import follow_state
from luksctl.node.node import Node, Paths
from luksctl.node.sources import store_config, stored_config
from luksctl.reconcile.converge import converge
from tests.node.image_node import POLICY, MadeUpSystem, document, static
from tests.reconcile.images import Node as Images
from tests.reconcile.images import cheap_wish
from tests.reconcile.stage import Stage

MOUNTED: Final = "mnt"
_CHEAP_MEMORY_KIB: Final = 1024


def config(*passphrases: str) -> MachineConfig:
    """Return the config that opens STATE with these, in slots from 0 on."""
    keys = [static(slot, passphrase) for slot, passphrase in enumerate(passphrases)]
    return parse_machine_config("---\n".join((document(STATE, *keys), POLICY)).encode(), "a test")


def encryption(wanted: MachineConfig) -> VolumeEncryption:
    """Return the keys that a config has for STATE."""
    found = wanted.encryption_of(STATE)
    if found is None:
        raise AssertionError("there are keys in it")
    return found


class Running:
    """The node in `directory` just after a reboot: STATE is not open yet, so nothing is mounted."""

    def __init__(self, directory: Path, system: type[MadeUpSystem] = MadeUpSystem) -> None:
        shutil.rmtree(directory / "run", ignore_errors=True)
        self.images = Images(directory)
        self.mounted = directory / MOUNTED
        meta = Volume(ByImage(str(self.images.meta)))
        state = Volume(ByImage(str(self.images.state)), str(self.mounted))
        self.images.settings = Settings(((META, meta), (STATE, state)), Timeouts(device_s=0, hook_s=0, lock_s=0))
        self.system = system(memory=_CHEAP_MEMORY_KIB)
        run, none = str(directory / "run"), str(directory / "none")
        self.paths = Paths(
            run_dir=run,
            machine_config=none,
            credential_dirs=(),
            expected_encrypted=none,
            erasures=str(directory / "erasures"),
        )
        self.node = Node(
            self.images.settings,
            self.images.ports,
            self.system,
            self.paths,
            announce=lambda _: None,
            note_machine=lambda: None,
            tell=lambda _: None,
        )

    def open(self) -> None:
        """Open STATE by META's list, as the first stage of a boot does, and have it mounted."""
        known = self.images.facts().state_encryption
        if known is None:
            raise AssertionError("META names no keys of STATE")
        list(converge(cheap_wish(known), self.images.volume_settings, self.images.ports))
        self.system.mounts[str(self.mounted)] = os.path.realpath(self.paths.volume_link(STATE))

    def stored(self) -> MachineConfig:
        """Return STATE's own config."""
        found = stored_config(str(self.mounted))
        if found is None:
            raise AssertionError("STATE holds a config")
        return found

    def boot(self) -> MachineConfig:
        """Boot, and return the config that rules; raises unless STATE follows it."""
        self.open()
        stored = self.stored()
        findings = follow_state(self.node, stored).findings
        if findings:
            raise AssertionError(findings)
        return stored


def prepare(directory: Path, wanted: MachineConfig) -> Running:
    """Make a node in `directory` that was formatted with `wanted`, which STATE holds."""
    Stage(directory).node(encryption(wanted))
    found = Running(directory)
    found.mounted.mkdir()
    store_config(str(found.mounted), wanted)
    return found
