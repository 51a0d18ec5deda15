"""A node over image files: real headers, META, locks and files; only mounts, and on demand providers, are made up."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from luksctl.cryptsetup.device import Device
from luksctl.cryptsetup.formatting import FormatParameters
from luksctl.model.config import (
    CHEAPEST_KDF,
    EPHEMERAL,
    META,
    META_SIZE_BYTES,
    STATE,
    ByImage,
    ConfiguredKey,
    KdfCost,
    Settings,
    Timeouts,
    VolumeSettings,
)
from luksctl.model.observed import Mapping
from luksctl.model.ports import KeyProvider
from luksctl.model.probe import Signature
from luksctl.node.node import Node, Paths
from luksctl.node.sources import stored_config
from luksctl.secret import Secret
from luksctl.units import MIB
from luksctl.value import replace
from luksctl.wiring import build_node

POLICY = "apiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nfilesystems: {STATE: ext4, EPHEMERAL: ext4}\n"


def document(volume: str, *keys: str) -> str:
    """Return one document that encrypts `volume` with these keys."""
    listed = "".join(f"    - {{{key}}}\n" for key in keys)
    return (
        f"apiVersion: v1alpha1\nkind: VolumeConfig\nname: {volume}\nencryption:\n  provider: luks2\n  keys:\n{listed}"
    )


def static(slot: int, passphrase: str) -> str:
    """Return a static key of a document."""
    return f"slot: {slot}, static: {{passphrase: {passphrase}}}"


@dataclass
class MadeUpSystem:
    """A machine whose mounts are a table."""

    mounts: dict[str, str] = field(default_factory=dict)
    memory: int = 1 << 20
    boot: str = "boot 1"
    reboots: int = 0

    def mounted_from(self, mount_point: str) -> str | None:
        """Return what the table says."""
        return self.mounts.get(mount_point)

    def start_unit(self, unit: str) -> None:
        """Fail: nobody here starts anything."""
        raise AssertionError(unit)

    def start_soon(self, unit: str) -> None:
        """Fail: nothing here is left for another stage."""
        raise AssertionError(unit)

    def start_dependants(self, unit: str) -> tuple[str, ...]:
        """Start nothing: nothing here needs `unit`."""
        del unit
        return ()

    def reset_failed(self, unit: str) -> None:
        """Fail as well."""
        raise AssertionError(unit)

    def memory_kib(self) -> int:
        """Return what the test wants."""
        return self.memory

    def kernel_arguments(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def boot_id(self) -> str:
        """Return the boot that this is."""
        return self.boot

    def clock_awaited(self) -> bool:
        """Say that it is synchronised."""
        return False

    def tell_ready(self) -> None:
        """Tell nobody."""

    def reboot(self) -> None:
        """Note that somebody asked for it."""
        self.reboots += 1

    def power_off(self) -> None:
        """Fail: nobody asks for it."""
        raise AssertionError("switched off")

    def monotonic_s(self) -> float:
        """Return the one moment there is."""
        return 1.0

    def sleep(self, seconds: float) -> None:
        """Fail: nothing here is worth waiting for."""
        raise AssertionError(f"slept {seconds} s")


class NotedUnits(MadeUpSystem):
    """A machine whose systemd notes what it is asked for."""

    def __init__(self, mounts: dict[str, str]) -> None:
        super().__init__(mounts)
        self.units: list[str] = []

    def start_unit(self, unit: str) -> None:
        """Note it."""
        self.units.append(unit)

    def start_soon(self, unit: str) -> None:
        """Note it."""
        self.units.append(unit)

    def reset_failed(self, unit: str) -> None:
        """Do nothing."""


class ImageNode:
    """META, STATE and EPHEMERAL as image files in `directory`; STATE's own files are in `directory`/mnt/state."""

    def __init__(self, directory: Path, *, mounted: bool = True) -> None:
        self.directory = directory
        self.told: list[str] = []
        self.mappings: dict[str, Mapping] = {}
        self.system = MadeUpSystem()
        self.images = {name: directory / f"{name.lower()}.img" for name in (META, STATE, EPHEMERAL)}
        self.state, self.ephemeral = directory / "mnt/state", directory / "mnt/ephemeral"
        for path in (self.state, self.ephemeral):
            path.mkdir(parents=True)
        for name, path in self.images.items():
            path.touch(0o600)
            os.truncate(path, META_SIZE_BYTES if name == META else 20 * MIB)
        points = {META: None, STATE: str(self.state), EPHEMERAL: str(self.ephemeral)}
        volumes = tuple((name, VolumeSettings(ByImage(str(path)), points[name])) for name, path in self.images.items())
        self.settings = Settings(volumes, Timeouts(device_s=0, hook_s=0, lock_s=0))
        self.paths = Paths(
            run_dir=str(directory / "run"),
            machine_config=str(directory / "machine.yaml"),
            credential_dirs=(),
            expected_encrypted=str(directory / "expected.json"),
            erasures=str(directory / "erasures"),
            reset_hooks=str(directory / "reset.d"),
        )
        node = build_node(self.settings, lambda _: None, self.paths, self.told.append)
        self.node: Node = replace(node, system=self.system)
        if mounted:
            self.mount(STATE)

    def mount(self, volume: str) -> None:
        """Mount `volume` from its link, as systemd does."""
        link = Path(self.paths.volume_link(volume))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/dev/mapper/luks2-{volume}")
        self.system.mounts[str(self.directory / "mnt" / volume.lower())] = os.path.realpath(link)

    def open(self, volume: str) -> None:
        """Make up a mapping of the volume with a filesystem in it, and mount that."""
        name = f"luks2-{volume}"
        inside = Signature("ext4", uuid="3c0a-inside", usage="filesystem")
        self.mappings[name] = Mapping(name, f"/dev/mapper/{name}", os.path.realpath(self.images[volume]), inside)
        vars(self.node.ports.disks)["mapping"] = self.mappings.get
        if str(self.directory / "mnt" / volume.lower()) not in self.system.mounts:
            self.mount(volume)

    def follow_in_meta(self) -> None:
        """Let META know the keys of STATE, as a boot does."""
        config = stored_config(str(self.state))
        assert config is not None
        self.node.ports.meta.write_state_encryption(config.encryption_of(STATE))

    def with_provider(self, provider: Callable[[ConfiguredKey], KeyProvider]) -> Node:
        """Return the node with other providers."""
        self.node = replace(self.node, ports=replace(self.node.ports, provider=provider))
        return self.node

    def configure(self, *documents: str) -> None:
        """Make these STATE's own config."""
        (self.state / "config.yaml").write_text("---\n".join((*documents, POLICY)), encoding="utf-8")

    def format(self, volume: str, slots: dict[int, str], kdf: KdfCost = CHEAPEST_KDF) -> None:
        """Make the image a LUKS2 volume with these passphrases."""
        with Device.blank(str(self.images[volume])) as device, Secret.random(64) as volume_key:
            device.format(FormatParameters(), volume_key)
            for slot, passphrase in slots.items():
                with Secret.take(passphrase.encode()) as key:
                    device.keyslots.add_by_volume_key(slot, key, volume_key, kdf)

    def replace_key(self, volume: str, slot: int, old: str, new: str) -> None:
        """Write another passphrase into a slot, as any other tool would."""
        with (
            Device.open(str(self.images[volume])) as device,
            Secret.take(old.encode()) as before,
            Secret.take(new.encode()) as after,
            device.volume_key(before, slot=slot) as volume_key,
        ):
            device.keyslots.destroy(slot)
            device.keyslots.add_by_volume_key(slot, after, volume_key, CHEAPEST_KDF)

    def set_token(self, volume: str, number: int, text: str) -> None:
        """Write a token, as any other tool would."""
        with Device.open(str(self.images[volume])) as device:
            device.tokens.set(number, text)

    def bytes_of(self, *volumes: str) -> tuple[bytes, ...]:
        """Return what the images hold."""
        return tuple(self.images[volume].read_bytes() for volume in volumes or self.images)
