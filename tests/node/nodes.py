"""A node over a world in memory: one STATE that can be formatted, opened and mounted; EPHEMERAL is not there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from luksctl.config.documents import parse_machine_config
from luksctl.errors import DeviceMissing
from luksctl.model.config import EPHEMERAL, META, STATE, ByLabel, MachineConfig, Settings, VolumeSettings
from luksctl.node.node import Node, Paths
from luksctl.node.units import mount_unit
from luksctl.node.waiting import Deadline
from tests.reconcile.world import World

MEMORY_KIB = 1 << 20


def config(words: str = "correct horse", slot: int = 0) -> MachineConfig:
    """Return a config, as an operator gives it, that encrypts STATE with one static key."""
    text = (
        "apiVersion: v1alpha1\nkind: VolumeConfig\nname: STATE\nencryption:\n  provider: luks2\n  keys:\n"
        f"    - slot: {slot}\n      static: {{passphrase: {words}}}\n"
    )
    return parse_machine_config(text.encode(), "given by hand")


@dataclass
class RecordedSystem:
    """A system whose clock stands still, and whose mount unit mounts what the link of STATE points at."""

    state: str
    link: str
    mounts: dict[str, str] = field(default_factory=dict)
    boot: str = "boot 1"
    reboots: int = 0
    now_s: float = 1.0
    units: list[str] = field(default_factory=list)

    def mounted_from(self, mount_point: str) -> str | None:
        """Return what was mounted there."""
        return self.mounts.get(mount_point)

    def start_unit(self, unit: str) -> None:
        """Mount STATE; of any other unit only note it."""
        self.units.append(unit)
        if unit != mount_unit(self.state):
            return
        self.mounts[self.state] = os.path.realpath(self.link)

    def start_soon(self, unit: str) -> None:
        """Fail: nothing here is left for another stage."""
        raise AssertionError(unit)

    def start_dependants(self, unit: str) -> tuple[str, ...]:
        """Start nothing: nothing here needs `unit`."""
        del unit
        return ()

    def reset_failed(self, unit: str) -> None:
        """Do nothing: no unit fails here."""

    def memory_kib(self) -> int:
        """Return enough."""
        return MEMORY_KIB

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
        """Return the time, which only sleep moves on."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.now_s += seconds


@dataclass
class Bench:
    """A node, the world below it, and the directory where STATE is mounted."""

    world: World
    node: Node
    system: RecordedSystem
    state: Path

    @property
    def now(self) -> Deadline:
        """Return a deadline that has passed."""
        return Deadline(self.node, 0.0)

    def mount_state(self) -> None:
        """Mount STATE from its mapping, as an earlier boot stage did."""
        link = Path(self.system.link)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/dev/mapper/luks2-STATE")
        self.system.start_unit(mount_unit(str(self.state)))

    def stored(self) -> bytes | None:
        """Return the config that STATE holds."""
        path = self.state / "config.yaml"
        return path.read_bytes() if path.exists() else None


def bench(directory: Path) -> Bench:
    """Return a node that was never set up."""
    world, state = World(), directory / "state"
    state.mkdir(mode=0o700)
    location = ByLabel(EPHEMERAL)
    world.fail[f"find {EPHEMERAL} in {location} for 0 s"] = DeviceMissing("no EPHEMERAL here", hint="luksctl install")
    settings = Settings(
        (
            (META, VolumeSettings(ByLabel(META))),
            (STATE, VolumeSettings(ByLabel(STATE), str(state))),
            (EPHEMERAL, VolumeSettings(location)),
        )
    )
    paths = Paths(
        run_dir=str(directory / "run"),
        machine_config=str(directory / "machine.yaml"),
        credential_dirs=(),
        expected_encrypted=str(directory / "expected.json"),
    )
    system = RecordedSystem(str(state), paths.volume_link(STATE))
    node = Node(settings, world.ports, system, paths, lambda _: None, lambda: None, lambda _: None)
    return Bench(world, node, system, state)
